//! What a setting may be: how it is read, written and spoken of.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::node::{Kind, Node, quoted};
use super::reader::Reader;
use super::section::Contents;
use super::units::{Rate, Size, Span};
use crate::accounts::DomainPattern;
use crate::dsn::Book;
use crate::mail::{Address, Class, ClientName, Domain};
use crate::net::{Fingerprint, Roots, check_trust_anchor};

/// Something that a setting may be.
pub(super) trait Value: Sized {
    /// What to write, as in "a time span such as \"5m\"".
    fn form() -> String;

    /// Reads it; tells the reader what is wrong with it.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// As TOML; nothing where nothing is set.
    fn written(&self) -> Option<String>;

    /// What it is where it is not named and has no default; the outer nothing where it must be named.
    fn absent(_: &mut Reader<'_>) -> Option<Option<Self>> {
        None
    }

    /// The settings in it, where it is a table of them.
    fn contents() -> Option<Contents> {
        None
    }

    /// What an entry of an array is called in keys, where it has a name.
    fn label(_: &Node) -> Option<String> {
        None
    }
}

/// Values that are written as texts.
macro_rules! texts {
    ($($type:ty, $form:expr, $parse:expr;)*) => {$(
        impl Value for $type {
            fn form() -> String {
                $form.into()
            }

            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                reader.text(node, &Self::form(), $parse)
            }

            fn written(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    )*};
}

texts! {
    String, "a text", |text| Ok::<_, String>(text.to_owned());
    Span, "a time span such as \"5m\": a number and ms, s, m, h or d, 3650d at most", |text| {
        Span::parse(text).ok_or("is no time span")
    };
    Size, "a size such as \"50MiB\": a number and B, KiB, MiB or GiB", |text| {
        Size::parse(text).ok_or("is no size")
    };
    Rate, "a rate such as \"30/s\": a number and /s, /m, /h or /d", |text| {
        Rate::parse(text).ok_or("is no rate")
    };
    SocketAddr, "an address and a port such as \"192.0.2.1:25\" or \"[2001:db8::1]:25\"", |text| {
        text.parse().map_err(|_| "is no address with a port")
    };
    IpNet, "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address", |text| {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(Into::into)).map_err(|_| "is no network")
    };
    Domain, "a host name such as \"relay.example.org\"", |text| {
        Domain::parse(text).map_err(|error| format!("is no host name: {error}"))
    };
    Address, "an address such as \"reports@example.org\"", |text| {
        Address::parse(text).map_err(|error| format!("is no address: {error}"))
    };
    DomainPattern, "\"example.net\", \"*.example.net\" (all below it) or \"*\" (all)", |text| {
        DomainPattern::parse(text).map_err(|error| format!("names no domains: {error}"))
    };
    ClientName, client_name_form(), |text| {
        let name = ClientName::parse(text).filter(|name| *name != ClientName::own());
        name.ok_or("is no client name")
    };
    Fingerprint, "the SHA-256 fingerprint of a certificate, 64 hexadecimal digits: \
        `openssl x509 -in client.pem -noout -fingerprint -sha256` prints it", |text| {
        Fingerprint::parse(text).ok_or("is no SHA-256 fingerprint")
    };
    Class, "\"transactional\", \"normal\" or \"bulk\"", |text| {
        Class::ALL.into_iter().find(|class| class.as_str() == text).ok_or("is no class")
    };
}

/// A PEM file of roots that can be read and makes sense.
#[derive(Clone, Debug)]
pub(super) struct RootsFile(pub(super) PathBuf);

impl Value for RootsFile {
    fn form() -> String {
        "the path of a PEM file of certificates".into()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, &Self::form(), |text| {
            let file = PathBuf::from(text);
            match Roots::with_files(std::slice::from_ref(&file)) {
                Ok(_) => Ok(RootsFile(file)),
                Err(error) => Err(format!("does not serve: {error}")),
            }
        })
    }

    fn written(&self) -> Option<String> {
        self.0.written()
    }
}

/// A file of providers and rules that can be read and makes sense.
#[derive(Clone, Debug)]
pub(super) struct ProviderData {
    file: PathBuf,
    /// What it says.
    pub(super) book: Book,
}

impl Value for ProviderData {
    fn form() -> String {
        "the path of a file of providers".into()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, &Self::form(), |text| {
            let file = PathBuf::from(text);
            let text = std::fs::read_to_string(&file).map_err(|error| format!("does not serve: {error}"))?;
            match Book::parse(&text) {
                Ok(book) => Ok(ProviderData { file, book }),
                Err(error) => Err(format!("does not serve: {error}")),
            }
        })
    }

    fn written(&self) -> Option<String> {
        self.file.written()
    }
}

/// A file with keys of the root that can be read and makes sense.
#[derive(Clone, Debug)]
pub(super) struct AnchorFile(pub(super) PathBuf);

impl Value for AnchorFile {
    fn form() -> String {
        "the path of a file of DNSKEY records".into()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, &Self::form(), |text| {
            let file = PathBuf::from(text);
            match check_trust_anchor(&file) {
                Ok(()) => Ok(AnchorFile(file)),
                Err(error) => Err(format!("does not serve: {error}")),
            }
        })
    }

    fn written(&self) -> Option<String> {
        self.0.written()
    }
}

fn client_name_form() -> String {
    let most = ClientName::MAX_OCTETS;
    format!("a name of up to {most} letters, digits and signs without spaces, and not \"barid\"")
}

impl Value for PathBuf {
    fn form() -> String {
        "a path".into()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, "a path", |text| match text {
            "" => Err("is no path"),
            text => Ok(text.into()),
        })
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Value for bool {
    fn form() -> String {
        "true or false".into()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.kind {
            Kind::Truth(truth) => Some(truth),
            _ => reader.wrong_type(node, &Self::form()),
        }
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Values that are whole numbers.
macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn form() -> String {
                "a whole number".into()
            }

            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                match &node.kind {
                    Kind::Number(_, worth) => match worth.and_then(|worth| <$type>::try_from(worth).ok()) {
                        Some(number) => Some(number),
                        None => {
                            let remedy = format!("write a whole number from 0 to {}", <$type>::MAX);
                            reader.fault(node, "is out of range", &remedy)
                        }
                    },
                    _ => reader.wrong_type(node, &Self::form()),
                }
            }

            fn written(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

numbers!(u16, u32, usize);

/// One of a few words, each for a variant.
macro_rules! choice {
    ($(#[$attribute:meta])* $name:ident { $first:ident = $first_word:literal $(, $more:ident = $word:literal)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $first,
            $($more),*
        }

        impl $crate::app::config::value::Value for $name {
            fn form() -> String {
                concat!("\"", $first_word, "\"", $(" or \"", $word, "\""),*).into()
            }

            fn read(
                node: &$crate::app::config::node::Node,
                reader: &mut $crate::app::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.text(node, &Self::form(), |text| match text {
                    $first_word => Ok($name::$first),
                    $($word => Ok($name::$more),)*
                    _ => Err("is none of the words that may stand here"),
                })
            }

            fn written(&self) -> Option<String> {
                let word = match self {
                    $name::$first => $first_word,
                    $($name::$more => $word),*
                };
                Some(format!("\"{word}\""))
            }
        }
    };
}
pub(super) use choice;

impl<T: Value> Value for Option<T> {
    fn form() -> String {
        T::form()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn written(&self) -> Option<String> {
        self.as_ref().and_then(T::written)
    }
}

impl<T: Value> Value for Vec<T> {
    fn form() -> String {
        format!("an array, each entry {}", T::form())
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let nodes = match &node.kind {
            Kind::List(nodes) => nodes,
            // whoever forgets a pair of brackets in a header
            Kind::Table(_) if T::contents().is_some() => {
                let remedy = format!("write [[{}]], of which there may be several", reader.path());
                reader.fault_at(Some(node.place), None, "is one table", &remedy);
                return None;
            }
            _ => return reader.wrong_type(node, &Self::form()),
        };
        // all of them are read: each may have its fault
        let values: Vec<Option<T>> = if T::contents().is_some() {
            reader.entries(nodes, T::label, T::read)
        } else {
            nodes.iter().map(|node| T::read(node, reader)).collect()
        };
        values.into_iter().collect()
    }

    fn written(&self) -> Option<String> {
        let values: Vec<String> = self.iter().filter_map(T::written).collect();
        Some(format!("[{}]", values.join(", ")))
    }

    fn absent(_: &mut Reader<'_>) -> Option<Option<Self>> {
        T::contents().map(|_| Some(Vec::new()))
    }

    fn contents() -> Option<Contents> {
        T::contents().map(|contents| Contents { is_array: true, ..contents })
    }
}
