//! The sealing key in a TPM 2.0, given out only while chosen platform configuration registers (PCRs) have the values that they had
//! when it was sealed. Spoken to through the programs of tpm2-tools.
//!
//! The files that are left are public: what the TPM has encrypted, and the registers' values. Objects are made under the owner's primary key
//! (ECC, which the TPM derives again each time).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use drystone_identity::files::{private_directory, read_if_exists, write_public};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::program::{ProgramError, run};
use super::{KeySealer, SealerError};
use crate::key::SealingKey;

/// Registers that the key is bound to unless others are asked for: 7, the state of Secure Boot. It stays through updates of firmware
/// and kernel, and changes when a machine boots what nobody has signed.
pub const DEFAULT_PCRS: &str = "sha256:7";

/// What TPM2_PolicyPCR and TPM2_Unseal say when the registers have other values (TPM_RC_POLICY_FAIL, TPM_RC_VALUE).
const POLICY_FAILED: [&str; 3] = ["0x99D", "0x99d", "policy check failed"];

const PUBLIC: &str = "sealed.pub";
const PRIVATE: &str = "sealed.priv";
const REGISTERS: &str = "pcrs";

/// Keeps the key in a TPM.
#[derive(Debug, Clone)]
pub struct TpmSealer {
    directory: PathBuf,
    tcti: Option<String>,
    pcrs: String,
}

impl TpmSealer {
    /// With files in `directory`; the TPM is reached by `tcti` (`swtpm:host=…,port=…`, `device:/dev/tpmrm0`; by default the
    /// machine's), the key is bound to `pcrs` (`sha256:0,7`).
    pub fn new(
        directory: impl Into<PathBuf>,
        tcti: Option<impl Into<String>>,
        pcrs: impl Into<String>,
    ) -> Self {
        Self { directory: directory.into(), tcti: tcti.map(Into::into), pcrs: pcrs.into() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        // The library's own remarks would drown what the programs say.
        let mut environment = vec![("TSS2_LOG", "all+ERROR")];
        environment.extend(self.tcti.as_deref().map(|tcti| ("TPM2TOOLS_TCTI", tcti)));
        environment
    }

    /// A resource manager swaps objects in and out; without one, what a program leaves has to be flushed.
    fn has_resource_manager(&self) -> bool {
        self.tcti.as_deref().is_none_or(|tcti| tcti.contains("tpmrm") || tcti.starts_with("tabrmd"))
    }

    fn tool(
        &self,
        program: &'static str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
        let done = run(program, arguments, &self.environment(), input);
        if !self.has_resource_manager() {
            // Objects that the next program needs are in context files. If there is nothing to flush, that is well.
            let _ = run("tpm2_flushcontext", ["--transient-object"], &self.environment(), b"");
        }
        done
    }

    /// The values of the registers, as text.
    fn registers(&self) -> Result<String, ProgramError> {
        let read = self.tool("tpm2_pcrread", &[&self.pcrs], b"")?;
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    fn primary(&self, work: &Work) -> Result<(), ProgramError> {
        let context = work.path("primary.ctx");
        self.tool("tpm2_createprimary", &["-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", &context], b"")
            .map(drop)
    }

    /// Makes the policy that the registers have their present values.
    fn policy(&self, work: &Work) -> Result<String, ProgramError> {
        let (session, policy) = (work.path("session.ctx"), work.path("policy"));
        self.tool("tpm2_startauthsession", &["-S", &session], b"")?;
        self.tool("tpm2_policypcr", &["-Q", "-S", &session, "-l", &self.pcrs, "-L", &policy], b"")?;
        self.tool("tpm2_flushcontext", &[&session], b"")?;
        Ok(policy)
    }

    fn work(&self) -> Result<Work, SealerError> {
        private_directory(&self.directory)?;
        let failed = |error: std::io::Error| SealerError::NoKey {
            path: self.directory.clone(),
            problem: format!("no working directory can be made there: {error}"),
        };
        Ok(Work(tempfile::Builder::new().prefix("work.").tempdir_in(&self.directory).map_err(failed)?))
    }

    /// What has become of the registers since the key was sealed.
    fn changed(&self) -> Result<String, SealerError> {
        let (pcrs, before) = self.sealed_registers()?;
        let now = Self { pcrs, ..self.clone() }.registers()?;
        Ok(differences(&before, &now))
    }

    /// Which registers the key was sealed to, and the values that they had.
    fn sealed_registers(&self) -> Result<(String, String), SealerError> {
        let path = self.file(REGISTERS);
        let bytes = read_if_exists(&path)?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        match text.split_once('\n') {
            Some((pcrs, values)) => Ok((pcrs.to_owned(), values.to_owned())),
            None => Err(SealerError::NoKey {
                path,
                problem: "it does not say which PCRs the key is bound to".into(),
            }),
        }
    }
}

/// A directory for what programs hand each other, which goes with it.
struct Work(TempDir);

impl Work {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

impl KeySealer for TpmSealer {
    fn description(&self) -> String {
        match &self.tcti {
            Some(tcti) => format!("the TPM at {tcti}"),
            None => "the machine's TPM".to_owned(),
        }
    }

    fn seal(&self, key: &SealingKey) -> Result<(), SealerError> {
        let work = self.work()?;
        let registers = self.registers()?;
        if is_unmeasured(&registers) {
            tracing::warn!(
                pcrs = self.pcrs,
                "the registers that the sealing key is bound to are all zero: nothing has been measured into them, and they protect nothing"
            );
        }
        let policy = self.policy(&work)?;
        self.primary(&work)?;
        let (public, private) = (work.path(PUBLIC), work.path(PRIVATE));
        let primary = work.path("primary.ctx");
        // No `userwithauth`: the policy is the only way to it, an empty password is none.
        let create = [
            "-Q",
            "-C",
            &primary,
            "-L",
            &policy,
            "-a",
            "fixedtpm|fixedparent|noda",
            "-i",
            "-",
            "-u",
            &public,
            "-r",
            &private,
        ];
        self.tool("tpm2_create", &create, key.expose())?;
        let registers = format!("{}\n{registers}", self.pcrs);
        write_public(&self.file(REGISTERS), registers.as_bytes())?;
        for (made, name) in [(&private, PRIVATE), (&public, PUBLIC)] {
            let bytes = read_if_exists(Path::new(made))?.unwrap_or_default();
            write_public(&self.file(name), &bytes)?;
        }
        Ok(())
    }

    fn unseal(&self) -> Result<Option<SealingKey>, SealerError> {
        if !self.keeps() {
            return Ok(None);
        }
        let (pcrs, _) = self.sealed_registers()?;
        let work = self.work()?;
        self.primary(&work)?;
        let context = work.path("sealed.ctx");
        let (public, private) = (self.file(PUBLIC), self.file(PRIVATE));
        let (public, private) = (public.display().to_string(), private.display().to_string());
        let load = ["-Q", "-C", &work.path("primary.ctx"), "-u", &public, "-r", &private, "-c", &context];
        self.tool("tpm2_load", &load, b"").map_err(|error| match error {
            ProgramError::Failed { message, .. } => {
                SealerError::AnotherTpm { directory: self.directory.clone(), problem: message }
            }
            other => other.into(),
        })?;
        match self.tool("tpm2_unseal", &["-Q", "-c", &context, "-p", &format!("pcr:{pcrs}")], b"") {
            Ok(bytes) => {
                let key = SealingKey::from_bytes(&bytes);
                key.map(Some).map_err(|error| SealerError::Length(self.description(), error))
            }
            Err(error) if POLICY_FAILED.iter().any(|text| error.said(text)) => {
                Err(SealerError::StateChanged { changed: self.changed()? })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keeps(&self) -> bool {
        self.file(PUBLIC).exists()
    }

    fn forget(&self) -> Result<(), SealerError> {
        // Without its files the TPM cannot give the key out either; it keeps nothing itself.
        for name in [PUBLIC, PRIVATE, REGISTERS] {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SealerError::NoKey {
                        path,
                        problem: format!("it cannot be removed: {error}"),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether all registers are zero.
fn is_unmeasured(registers: &str) -> bool {
    registers
        .lines()
        .filter_map(value)
        .all(|(_, value)| value.trim_start_matches("0x").bytes().all(|byte| byte == b'0'))
}

/// Number and value of a register, from a line of tpm2_pcrread.
fn value(line: &str) -> Option<(&str, &str)> {
    let (number, value) = line.split_once(':')?;
    let (number, value) = (number.trim(), value.trim());
    (value.starts_with("0x") && number.bytes().all(|byte| byte.is_ascii_digit())).then_some((number, value))
}

/// Which registers differ, in words.
fn differences(before: &str, now: &str) -> String {
    let mut text = String::new();
    for (number, value) in before.lines().filter_map(self::value) {
        let present = now.lines().filter_map(self::value).find(|(other, _)| *other == number);
        let present = present.map_or("not there", |(_, value)| value);
        if present != value {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}PCR {number} was {value} when it was sealed and is {present}");
        }
    }
    if text.is_empty() {
        "the registers are as they were; the policy failed for another reason".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "  sha256:\n    0 : 0x3D45\n    7 : 0x0000\n";

    #[test]
    fn what_changed_is_told() {
        let now = "  sha256:\n    0 : 0x3D45\n    7 : 0x65CA\n";
        assert_eq!(differences(READ, now), "PCR 7 was 0x0000 when it was sealed and is 0x65CA");
        assert!(differences(READ, READ).contains("another reason"));
        assert!(differences(READ, "").contains("not there"));
        assert!(!is_unmeasured(READ));
        assert!(is_unmeasured("  sha256:\n    7 : 0x0000\n"));
    }
}
