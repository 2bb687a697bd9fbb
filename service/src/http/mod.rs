//! The server that every role uses: the same manners on every route.
//!
//! [`Shell::wrap`] puts around a role's routes, from the outside in: a span and an access line per request
//! (`X-Trace-Id` and `X-Request-Id` on every answer), panics as 500, a time limit, a body limit, and problem details for
//! whatever goes wrong before a handler is reached. [`serve()`] listens and stops in two stages.
//! [`Door`] lets a role listen before it can serve everything.
//! [`Json`], [`Query`], [`Path`] and [`Body`] are extractors whose refusals are problems.

mod door;
mod exact;
mod explain;
mod extract;
mod observe;
mod others;
mod serve;
mod shell;

pub use door::Door;
pub use extract::{Body, Json, Path, Query};
pub use observe::{REQUEST_ID, TRACE_ID};
pub use serve::serve;
pub use shell::Shell;
