//! What is wrong with a configuration.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::app) struct Fault {
    /// The file.
    pub(in crate::app) file: String,
    /// From 1 on; nothing where something is not there at all.
    pub(in crate::app) line: Option<usize>,
    /// The setting, as `client[apps].networks`.
    pub(in crate::app) key: Option<String>,
    /// What was found there.
    pub(in crate::app) value: Option<String>,
    /// What is wrong with it.
    pub(in crate::app) why: String,
    /// What to write instead.
    pub(in crate::app) remedy: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        if let Some(value) = &self.value {
            write!(f, "`{value}` ")?;
        }
        f.write_str(&self.why)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Everything that could be found, in the order of the files.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::app) struct ConfigFaults(pub(in crate::app) Vec<Fault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            let line_end = if number == 0 { "" } else { "\n" };
            write!(f, "{line_end}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}
