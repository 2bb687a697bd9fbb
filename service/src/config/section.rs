//! One declaration per setting: the struct's field, its documentation, its default and its rule.

/// Declares a section: a documented struct, and the function that reads it from the sources.
///
/// The sentence above a field is its documentation here *and* in `docs/configuration.md`; the expression behind `=` says
/// what is accepted and what holds when nothing is set. Written once, so that the two cannot drift apart.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $spec:expr ),+ $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type ),+
        }

        impl $name {
            /// Reads every field, reporting each mistake; `None` when there was one.
            pub(crate) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                $( let $field = reader.field(stringify!($field), concat!($($doc),+), $spec); )+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
}

pub(crate) use section;
