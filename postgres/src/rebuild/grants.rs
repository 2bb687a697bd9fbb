//! Whoever may read the live tables may read the new ones.
//!
//! Privileges on the schema and on whole tables are taken over; those on single columns are not.

use sqlx::PgConnection;

use super::{Schemas, tell};

/// Gives everybody the privileges on the shadow that they have on the live schema and its tables.
pub(super) async fn take_over(
    connection: &mut PgConnection,
    schemas: &Schemas,
) -> Result<(), sqlx::Error> {
    let grants: Vec<String> = sqlx::query_scalar(
        "with granted as (
             select format('schema %I', $2) as object, acl.*
             from pg_namespace as n
             cross join aclexplode(n.nspacl) as acl
             where n.nspname = $1
             union all
             select format('table %I.%I', $2, c.relname), acl.*
             from pg_class as c
             join pg_namespace as n on n.oid = c.relnamespace
             join pg_class as twin on twin.relname = c.relname
                  and twin.relnamespace = (select oid from pg_namespace where nspname = $2)
             cross join aclexplode(c.relacl) as acl
             where n.nspname = $1
               and c.relkind = 'r'
         )
         select format('grant %s on %s to %s%s', privilege_type, object,
                       case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
                       case when is_grantable then ' with grant option' else '' end)
         from granted",
    )
    .bind(schemas.live.as_str())
    .bind(schemas.shadow.as_str())
    .fetch_all(&mut *connection)
    .await?;
    for grant in grants {
        tell(connection, grant).await?;
    }
    Ok(())
}
