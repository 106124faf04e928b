//! Tables of settings: each setting is declared once, with its name, type, default, meaning, limits, and
//! whether a reload changes it. The reader, the example and the documentation come from that.

use std::fmt;

use super::reader::Change;

/// A setting as it is declared.
pub(super) struct Declared<T> {
    pub(super) key: &'static str,
    about: &'static [&'static str],
    pub(super) change: Change,
    pub(super) default: Option<T>,
    /// What could be written, as TOML; for settings without a default.
    pub(super) example: &'static str,
    pub(super) rule: Option<Rule<T>>,
}

impl<T> Declared<T> {
    pub(super) fn new(
        key: &'static str,
        about: &'static [&'static str],
        change: Change,
        default: Option<T>,
    ) -> Self {
        Declared { key, about, change, default, example: "", rule: None }
    }

    pub(super) fn example(self, example: &'static str) -> Self {
        Declared { example, ..self }
    }

    pub(super) fn rule(self, rule: Rule<T>) -> Self {
        Declared { rule: Some(rule), ..self }
    }
}

impl<T: 'static> Declared<Option<T>> {
    /// A rule for where it is set.
    pub(super) fn if_set(self, rule: Rule<T>) -> Self {
        let Rule { text, holds } = rule;
        self.rule(Rule { text, holds: Box::new(move |value| value.as_ref().is_none_or(&holds)) })
    }
}

impl<T: super::value::Value> Declared<T> {
    /// The same without its type, for whoever tells of it.
    pub(super) fn described(self) -> Field {
        Field {
            key: self.key,
            about: self.about,
            form: T::form(),
            is_required: self.default.is_none() && T::contents().is_none(),
            default: self.default.as_ref().and_then(T::written),
            rule: self.rule.map(|rule| rule.text),
            change: self.change,
            example: self.example,
            contents: T::contents(),
        }
    }
}

/// What must hold of a value.
pub(super) struct Rule<T> {
    text: String,
    holds: Box<dyn Fn(&T) -> bool>,
}

impl<T> Rule<T> {
    /// Whether it holds.
    pub(super) fn holds(&self, value: &T) -> bool {
        (self.holds)(value)
    }

    /// As in "it must be at least 1", behind "must".
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The same, with its reason.
    pub(super) fn because(self, reason: &str) -> Self {
        Rule { text: format!("{} ({reason})", self.text), ..self }
    }
}

/// At least so much.
pub(super) fn at_least<T: PartialOrd + fmt::Display + 'static>(least: T) -> Rule<T> {
    Rule { text: format!("be at least {least}"), holds: Box::new(move |value| *value >= least) }
}

/// From one to the other, both included.
pub(super) fn within<T: PartialOrd + fmt::Display + 'static>(least: T, most: T) -> Rule<T> {
    Rule {
        text: format!("be from {least} to {most}"),
        holds: Box::new(move |value| *value >= least && *value <= most),
    }
}

/// With at least one entry.
pub(super) fn not_empty<T: 'static>() -> Rule<Vec<T>> {
    such("have at least one entry", |values: &Vec<T>| !values.is_empty())
}

/// Whatever `text` says.
pub(super) fn such<T: 'static>(text: &str, holds: fn(&T) -> bool) -> Rule<T> {
    Rule { text: text.into(), holds: Box::new(holds) }
}

/// A setting without its type.
pub(super) struct Field {
    pub(super) key: &'static str,
    /// Lines of its meaning.
    pub(super) about: &'static [&'static str],
    pub(super) form: String,
    /// Whether there is nothing right without it.
    pub(super) is_required: bool,
    /// As TOML; nothing where it is not set.
    pub(super) default: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) change: Change,
    pub(super) example: &'static str,
    /// The settings in it, where it is a table.
    pub(super) contents: Option<Contents>,
}

/// What a table holds.
pub(super) struct Contents {
    /// Lines of its meaning.
    pub(super) about: &'static [&'static str],
    pub(super) fields: Vec<Field>,
    /// Whether there may be many of it.
    pub(super) is_array: bool,
    /// A second one for the example, as TOML.
    pub(super) another: &'static str,
}

/// Declares a table of settings:
///
/// ```text
/// /// What it is for.
/// Name {
///     /// What the setting means.
///     key: Type = default => Live, rule(at_least(1));
///     /// One that must be there.
///     other: Type => Restart, example("\"this\"");
///     table: OtherName;
/// }
/// ```
///
/// A `check` tells the reader what is right by itself and wrong together, at the place where the table begins.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident $(, another = $another:literal)? $(, check = $check:path)? { $(
        $(#[doc = $doc:literal])*
        $(#[expect($($expected:tt)*)])?
        $key:ident: $type:ty $(= $default:expr)? $(=> $change:ident $(, $hint:ident($value:expr))*)?;
    )* }) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(super) struct $name {
            $(
                $(#[doc = $doc])*
                $(#[expect($($expected)*)])?
                pub(super) $key: $type,
            )*
        }

        impl $name {
            $(
                fn $key() -> $crate::app::config::section::Declared<$type> {
                    let (default, change) = (
                        $crate::app::config::section::section!(@default $($default)?),
                        $crate::app::config::section::section!(@change $($change)?),
                    );
                    let about = &[$($doc),*];
                    let declared = $crate::app::config::section::Declared::new(
                        stringify!($key), about, change, default,
                    );
                    declared$($(.$hint($value))*)?
                }
            )*

            pub(super) fn read_fields(
                fields: &$crate::app::config::reader::Fields<'_>,
                reader: &mut $crate::app::config::reader::Reader<'_>,
            ) -> Option<Self> {
                // all of them are read before the first that is wrong ends it
                $(let $key = reader.field(fields, Self::$key());)*
                reader.no_more(fields, &Self::described());
                let section = $name { $($key: $key?),* };
                $($check(&section, fields.place, reader);)?
                Some(section)
            }

            pub(super) fn described() -> $crate::app::config::section::Contents {
                $crate::app::config::section::Contents {
                    about: &[$($about),*],
                    fields: vec![$(Self::$key().described()),*],
                    is_array: false,
                    another: concat!($($another)?),
                }
            }
        }

        impl $crate::app::config::value::Value for $name {
            fn form() -> String {
                concat!("a table of:" $(, " ", stringify!($key))*).into()
            }

            fn read(
                node: &$crate::app::config::node::Node,
                reader: &mut $crate::app::config::reader::Reader<'_>,
            ) -> Option<Self> {
                let $crate::app::config::node::Kind::Table(table) = &node.kind else {
                    return reader.wrong_type(node, &Self::form());
                };
                let fields = $crate::app::config::reader::Fields::of(table, Some(node.place));
                Self::read_fields(&fields, reader)
            }

            fn written(&self) -> Option<String> {
                None
            }

            fn absent(reader: &mut $crate::app::config::reader::Reader<'_>) -> Option<Option<Self>> {
                Some(Self::read_fields(&$crate::app::config::reader::Fields::none(), reader))
            }

            fn contents() -> Option<$crate::app::config::section::Contents> {
                Some(Self::described())
            }

            fn label(node: &$crate::app::config::node::Node) -> Option<String> {
                node.name()
            }
        }
    };
    (@default $default:expr) => { Some($default) };
    (@default) => { None };
    (@change $change:ident) => { $crate::app::config::reader::Change::$change };
    (@change) => { $crate::app::config::reader::Change::Live };
}
pub(super) use section;
