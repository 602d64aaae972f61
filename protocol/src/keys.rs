//! The keys of the operator's file. A struct that is made by [`keys!`] is the one place that says which there
//! are: options, environment variables, the file's reader and the table in the docs all come from it.

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// What its value looks like: `time`, `number`, `size`, …
    pub kind: &'static str,
    /// Several words make one value.
    pub list: bool,
    /// What holds where nobody says otherwise.
    pub default: &'static str,
    pub who: Who,
    /// One sentence.
    pub doc: &'static str,
}

/// Who may set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The operator alone, if the pool is privileged.
    Operator,
    /// The operator; whoever asks for the app may lower it.
    Lowered,
}

impl Who {
    /// For the table.
    #[must_use]
    pub fn said(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Lowered => "operator; owner and clients may lower it",
        }
    }
}

/// Makes a struct of optional settings with its table of [`Key`]s, and reads them by name.
macro_rules! keys {
    (
        $(#[$doc:meta])*
        pub struct $struct:ident {
            $($(#[doc = $text:literal])+ $name:ident: $kind:ident, $default:literal, $who:ident;)*
        }
        also { $($(#[$other_doc:meta])* $other:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $struct {
            $($(#[doc = $text])+ pub $name: Option<<$kind as $crate::units::Kind>::Value>,)*
            $($(#[$other_doc])* pub $other: $type,)*
        }

        impl $struct {
            /// Every key that can be set by its name.
            pub const KEYS: &'static [$crate::keys::Key] = &[$($crate::keys::Key {
                name: stringify!($name),
                kind: <$kind as $crate::units::Kind>::NAME,
                list: <$kind as $crate::units::Kind>::LIST,
                default: $default,
                who: $crate::keys::Who::$who,
                doc: concat!($($text),+),
            },)*];

            /// Sets a key to the value that these words say.
            ///
            /// # Errors
            /// One sentence: what is wrong with the value, or that there is no such key.
            pub fn set(&mut self, name: &str, words: &[String]) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = Some(<$kind as $crate::units::Kind>::read(words)?),)*
                    _ => return Err(format!("there is no key {name}")),
                }
                Ok(())
            }

            /// Whether a key has a value.
            #[must_use]
            pub fn sets(&self, name: &str) -> bool {
                match name {
                    $(stringify!($name) => self.$name.is_some(),)*
                    _ => false,
                }
            }

            /// The words that say a key's value, as [`set`](Self::set) takes them.
            #[must_use]
            pub fn words(&self, name: &str) -> Option<Vec<String>> {
                match name {
                    $(stringify!($name) => self.$name.as_ref().map(<$kind as $crate::units::Kind>::write),)*
                    _ => None,
                }
            }

            /// Takes a key's value away: somebody else's, or the default, holds again.
            pub fn unset(&mut self, name: &str) {
                match name {
                    $(stringify!($name) => self.$name = None,)*
                    _ => {}
                }
            }

            /// The keys of `self`, with what it leaves open taken from `base`. The rest is that of `self`.
            #[must_use]
            pub fn keys_over(self, base: &Self) -> Self {
                Self {
                    $($name: self.$name.or_else(|| base.$name.clone()),)*
                    $($other: self.$other,)*
                }
            }
        }
    };
}
pub(crate) use keys;

#[cfg(test)]
mod tests {
    use crate::config::PoolOptions;
    use crate::options::AppOptions;

    #[test]
    fn a_key_is_set_by_its_name_and_a_wrong_value_leaves_it_alone() {
        let mut options = AppOptions::default();
        options.set("max_requests", &["100".into()]).unwrap();
        assert!(options.set("max_requests", &["many".into()]).is_err());
        assert_eq!(options.max_requests, Some(100));
        assert!(options.sets("max_requests") && !options.sets("min"));
        assert!(options.set("nonsense", &["1".into()]).is_err());
        assert_eq!(options.words("max_requests"), Some(vec!["100".into()]));
        assert_eq!(options.words("min"), None);
        options.unset("max_requests");
        assert_eq!(options, AppOptions::default());
    }

    #[test]
    fn no_key_is_in_both_tables_and_each_is_documented() {
        for key in AppOptions::KEYS.iter().chain(PoolOptions::KEYS) {
            assert!(key.doc.len() > 10 && !key.doc.trim().ends_with('.'), "{}", key.name);
        }
        for key in PoolOptions::KEYS {
            assert!(AppOptions::KEYS.iter().all(|other| other.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn what_is_left_open_comes_from_the_base() {
        let base = AppOptions { min: Some(1), max_queue: Some(7), ..AppOptions::default() };
        let over = AppOptions { min: Some(2), ..AppOptions::default() }.over(&base);
        assert_eq!((over.min, over.max_queue), (Some(2), Some(7)));
    }
}
