//! GraphQL and REST reads over the read models.
