//! One virtual machine: its files, its process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{console, control};
use crate::{
    backend::{BootSource, BootState},
    netns::{Tap, process::ProcessId},
    site::{DriveMedia, HostSpec},
};

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";
/// An emulated machine has no more than this, whatever the site file says: MiB, processors.
const MOST_MEMORY: u64 = 4096;
const MOST_PROCESSORS: u32 = 4;
/// How long a killed process may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// How long QEMU has to prove that it accepts its arguments.
const START: Duration = Duration::from_millis(300);
/// A console log longer than this is begun anew when a host is switched on, in bytes.
const LONGEST_CONSOLE: u64 = 4 << 20;

/// Why a machine did not do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum MachineError {
    #[error("{PROGRAM} cannot be run: {0}; install qemu-system-x86")]
    NoProgram(io::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{PROGRAM} ended at once ({status}): {said}")]
    Refused { status: String, said: String },
    #[error("process {0} does not end although it was killed")]
    Unkillable(i32),
    #[error("the host is on; switch it off first")]
    On,
    #[error(
        "the medium is no bootable ISO image, and virtual machines boot nothing else; give the host an image"
    )]
    NoIso,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> MachineError {
    let what = what.into();
    move |source| MachineError::Io { what, source }
}

/// How a machine is connected.
pub(super) enum Network {
    /// By taps in a network namespace of its own.
    Taps(Vec<Tap>),
    /// Behind QEMU's address translation, with this MAC address; not at all if it has no interface.
    Translated(Option<String>),
}

/// A running machine, as it is found again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Running {
    process: ProcessId,
    /// Where the log of the console was when the machine was switched on.
    console_from: u64,
}

/// A machine.
pub(super) struct Machine {
    pub(super) host: String,
    /// Its files.
    pub(super) directory: PathBuf,
}

/// Whether QEMU is there.
pub(super) async fn check_program() -> Result<(), MachineError> {
    let version = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().await;
    version.map(drop).map_err(MachineError::NoProgram)
}

impl Machine {
    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    fn record(&self) -> PathBuf {
        self.directory.join("qemu.json")
    }

    fn drive(&self, name: &str) -> PathBuf {
        self.directory.join("drives").join(format!("{name}.raw"))
    }

    fn running(&self) -> Option<Running> {
        let running: Running = serde_json::from_slice(&fs::read(self.record()).ok()?).ok()?;
        running.process.is_alive().then_some(running)
    }

    pub(super) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    pub(super) fn boot_state(&self) -> Result<BootState, MachineError> {
        match self.running() {
            None => Ok(BootState::Off),
            Some(running) => {
                console::boot_state(&self.console(), running.console_from).map_err(io_error("console"))
            }
        }
    }

    pub(super) async fn power_on(
        &self,
        spec: &HostSpec,
        boot: &BootSource,
        network: &Network,
    ) -> Result<(), MachineError> {
        let medium = match boot {
            BootSource::Disk => None,
            BootSource::Medium(path) if is_iso(path) => Some(path.as_path()),
            BootSource::Medium(_) => return Err(MachineError::NoIso),
        };
        fs::create_dir_all(self.directory.join("drives"))
            .map_err(io_error(self.directory.display().to_string()))?;
        for drive in &spec.drives {
            let path = self.drive(&drive.name);
            let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            file.and_then(|file| file.set_len(drive.capacity_gib << 30))
                .map_err(io_error(path.display().to_string()))?;
        }
        if fs::metadata(self.console()).is_ok_and(|found| found.len() > LONGEST_CONSOLE) {
            fs::remove_file(self.console()).map_err(io_error("console"))?;
        }
        let console_from = fs::metadata(self.console()).map_or(0, |found| found.len());
        let log_path = self.directory.join("qemu.log");
        let log = fs::File::create(&log_path).map_err(io_error(log_path.display().to_string()))?;
        let mut command = match network {
            Network::Taps(taps) if !taps.is_empty() => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", taps[0].namespace.display())).arg(PROGRAM);
                command
            }
            _ => Command::new(PROGRAM),
        };
        command.args(self.arguments(spec, medium, network));
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io_error("log"))?);
        // A group of its own: it outlives this process, and the terminal's Ctrl-C is not meant for it.
        let mut child = command.stderr(log).process_group(0).spawn().map_err(MachineError::NoProgram)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(ProcessId::running);
        let ended = tokio::time::timeout(START, child.wait()).await;
        if let Ok(status) = ended {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let said = fs::read_to_string(&log_path).unwrap_or_default();
            return Err(MachineError::Refused {
                status,
                said: said.lines().last().unwrap_or_default().to_owned(),
            });
        }
        let process = pid.ok_or(MachineError::Unkillable(0))?;
        let record = serde_json::to_vec(&Running { process, console_from }).map_err(io::Error::from);
        let kept = record.and_then(|record| fs::write(self.record(), record));
        if let Err(error) = kept {
            // Nobody would find it again.
            let _ = child.kill().await;
            return Err(io_error(self.record().display().to_string())(error));
        }
        // Collects the process when it ends while this emulator is there.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    fn arguments(&self, spec: &HostSpec, medium: Option<&Path>, network: &Network) -> Vec<String> {
        let mut arguments: Vec<String> = ["-name", &self.host].map(str::to_owned).into();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        // The firmware speaks on the serial console where there are no graphics.
        add("-machine", "pc,accel=tcg,graphics=off".to_owned());
        add("-cpu", "max".to_owned());
        add("-m", spec.memory_mib.min(MOST_MEMORY).to_string());
        add("-smp", spec.processor.threads.clamp(1, MOST_PROCESSORS).to_string());
        add("-uuid", spec.uuid.to_string());
        add("-smbios", format!("type=1,manufacturer=Drystone,product=Emulated host,serial={}", spec.name));
        add("-display", "none".to_owned());
        add("-rtc", "base=utc".to_owned());
        add("-chardev", "file,id=console,path=console.log,append=on".to_owned());
        add("-serial", "chardev:console".to_owned());
        add("-qmp", "unix:qmp.sock,server=on,wait=off".to_owned());
        add("-device", "virtio-rng-pci".to_owned());
        add("-device", "virtio-scsi-pci,id=scsi".to_owned());
        // The medium boots once; a machine that resets itself boots from its disk.
        add("-boot", if medium.is_some() { "order=c,once=d" } else { "order=c" }.to_owned());
        if let Some(medium) = medium {
            let medium = escaped(&medium.display().to_string());
            add("-drive", format!("if=none,id=medium,media=cdrom,readonly=on,format=raw,file={medium}"));
            add("-device", "ide-cd,drive=medium".to_owned());
        }
        for (index, drive) in spec.drives.iter().enumerate() {
            let serial = format!("{}-{}", spec.name, drive.name);
            // QEMU keeps 20 characters of a serial number.
            let serial: String =
                serial.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
            add(
                "-drive",
                format!("if=none,id=drive{index},format=raw,discard=unmap,file=drives/{}.raw", drive.name),
            );
            let device = match drive.media {
                DriveMedia::NVMe => format!("nvme,drive=drive{index},serial={serial}"),
                DriveMedia::Ssd => {
                    format!("scsi-hd,bus=scsi.0,drive=drive{index},serial={serial},rotation_rate=1")
                }
                DriveMedia::Hdd => {
                    format!("scsi-hd,bus=scsi.0,drive=drive{index},serial={serial},rotation_rate=7200")
                }
            };
            add("-device", device);
        }
        match network {
            Network::Translated(mac) => {
                if let Some(mac) = mac {
                    add("-netdev", "user,id=net0".to_owned());
                    add("-device", format!("virtio-net-pci,netdev=net0,mac={mac},romfile="));
                }
            }
            Network::Taps(taps) => {
                for (index, Tap { interface, mac, .. }) in taps.iter().enumerate() {
                    add("-netdev", format!("tap,id=net{index},ifname={interface},script=no,downscript=no"));
                    add("-device", format!("virtio-net-pci,netdev=net{index},mac={mac},romfile="));
                }
            }
        }
        arguments.extend(["-nodefaults", "-no-user-config"].map(str::to_owned));
        arguments
    }

    /// Presses the power button; the operating system may not listen.
    pub(super) async fn press_button(&self) -> Result<(), MachineError> {
        let Some(running) = self.running() else { return Ok(()) };
        // Paths of sockets are short; the way through the process always is.
        let socket = PathBuf::from(format!("/proc/{}/cwd/qmp.sock", running.process.pid));
        control::command(&socket, "system_powerdown").await.map_err(io_error("pressing the power button"))
    }

    /// Takes the power away.
    pub(super) async fn power_off(&self) -> Result<(), MachineError> {
        if let Some(Running { process, .. }) = self.running() {
            process.signal(Signal::SIGKILL).map_err(|error| io_error("SIGKILL")(error.into()))?;
            if !process.wait_for_end(KILL_DEADLINE).await {
                return Err(MachineError::Unkillable(process.pid));
            }
        }
        for file in [self.record(), self.directory.join("qmp.sock")] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(file.display().to_string())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Empties its drives; it must be off.
    pub(super) fn wipe(&self) -> Result<(), MachineError> {
        if self.is_running() {
            return Err(MachineError::On);
        }
        match fs::remove_dir_all(self.directory.join("drives")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("drives")(error)),
            _ => Ok(()),
        }
    }
}

/// QEMU takes a comma in a value as its end.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn is_iso(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|mut file| drystone_agent::iso9660::volume_id(&mut file).is_ok())
}
