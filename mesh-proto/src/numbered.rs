//! Closed sets whose numbers are on the wire.

/// Declares an enum with explicit numbers, both conversions and a `Display` text per value.
///
/// Numbers are append-only: a retired one stays unused for good.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident: $repr:ident {
        $($(#[$value_meta:meta])* $value:ident = $number:literal => $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr($repr)]
        pub enum $name {
            $($(#[$value_meta])* #[doc = concat!("`", stringify!($number), "`: ", $text, ".")] $value = $number,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> $repr {
                match self {
                    $(Self::$value => $number,)+
                }
            }

            /// The value with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $($number => Some(Self::$value),)+
                    _ => None,
                }
            }

            /// The same text as `Display`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// Puts a `numbered!` enum of `u8` on the wire as its number; an unknown number is an error.
macro_rules! wire_number {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.number())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u8::deserialize(deserializer)?;
                Self::from_number(number)
                    .ok_or_else(|| serde::de::Error::custom(concat!("unknown ", stringify!($name))))
            }
        }
    };
}
