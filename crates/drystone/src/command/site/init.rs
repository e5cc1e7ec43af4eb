//! `drystone site init`: a machine at the site becomes its local controller. There is no other step: the program is the API, the
//! controllers and the store.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{command::Failure, up};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the site
    name: String,
    /// Write a systemd unit that runs this, instead of running it: `/etc/systemd/system/drystone.service`
    #[arg(long, value_name = "FILE")]
    systemd: Option<PathBuf>,
    #[command(flatten)]
    up: up::UpArgs,
}

/// Runs the local controller, or writes the unit that does.
pub(super) async fn run(args: InitArgs) -> Result<(), Failure> {
    check_name(&args.name)?;
    let Some(file) = args.systemd else { return up::run_for(args.up, Some(args.name)).await };
    let program = std::env::current_exe()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let here = std::env::current_dir()?;
    std::fs::write(&file, unit(&args.name, &program, &without_systemd(&arguments), &here))
        .map_err(|error| format!("writing {}: {error}", file.display()))?;
    let unit = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    println!("{} written; now: systemctl enable --now {unit}", file.display());
    let data = std::path::absolute(args.up.data())?;
    println!("{}", up::registration_line(&args.name, &data));
    Ok(())
}

/// Names of sites are names of objects, and part of others' names.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
    let (first, last) = (name.bytes().next(), name.bytes().last());
    if name.len() <= 40 && name.bytes().all(is_fine) && ends(first) && ends(last) {
        return Ok(());
    }
    Err(format!("{name:?} is no name for a site: give up to 40 lower-case letters, digits and dashes, such as `east-1`").into())
}

/// The arguments of this call without `--systemd FILE`.
fn without_systemd(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--systemd" {
            rest.next();
        } else if !argument.starts_with("--systemd=") {
            kept.push(argument.clone());
        }
    }
    kept
}

/// The unit. The process is killed alone: emulated hardware stays up, as real hardware would.
fn unit(site: &str, program: &Path, arguments: &[String], directory: &Path) -> String {
    let words: Vec<String> = std::iter::once(program.display().to_string())
        .chain(arguments.iter().cloned())
        .map(|word| quoted(&word))
        .collect();
    format!(
        "[Unit]\nDescription=Drystone, local controller of site {site}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart={}\nWorkingDirectory={}\nRestart=always\nRestartSec=1\nKillMode=process\nUMask=0077\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        words.join(" "),
        directory.display().to_string().replace('%', "%%"),
    )
}

/// A word of a command line in a unit (systemd.service, "Command lines").
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) { word.to_owned() } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_runs_the_same_without_writing_itself() {
        let arguments =
            ["site", "init", "east", "--systemd", "/tmp/u", "--data", "/srv/my data", "--token=a$b%"];
        let kept = without_systemd(&arguments.map(str::to_owned));
        let text = unit("east", Path::new("/usr/bin/drystone"), &kept, Path::new("/srv"));
        let line = text.lines().find(|line| line.starts_with("ExecStart=")).expect("a command");
        assert_eq!(
            line,
            "ExecStart=/usr/bin/drystone site init east --data \"/srv/my data\" \"--token=a$$b%%\""
        );
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("east-1").is_ok());
        for wrong in ["", "East", "-a", "a-", "a.b", "a/b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
