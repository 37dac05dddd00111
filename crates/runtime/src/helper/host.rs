//! What the helper prepares on the host once, and takes back at its end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use crate::cgroup::Layout;
use crate::helper::{janitor, rootless};
use crate::net::{self, Subnet, firewall, netlink::Netlink};
use crate::sys;
use crate::wire::{HelperConfig, HostReport};

/// An earlier helper of the same state directory needs this long at most to end its containers.
const LOCK_WAIT: Duration = Duration::from_secs(15);

pub(crate) struct Host {
    pub layout: Layout,
    pub subnet: Option<Subnet>,
    pub network_error: Option<String>,
    /// Held while this helper lives.
    _lock: Option<fs::File>,
}

impl Host {
    /// Takes the state directory, sweeps what others left in it and prepares groups and network.
    pub(crate) fn prepare(config: &HelperConfig) -> (Host, HostReport) {
        let mut report = HostReport::default();
        let mut cut_off = None;
        if config.rootless {
            match rootless::enter(config) {
                Ok(trouble) => cut_off = trouble,
                Err(error) => report.fatal = Some(format!("user namespace: {error}")),
            }
        }
        let lock = match lock(config) {
            Ok(lock) => Some(lock),
            Err(error) => {
                report.fatal = Some(error.to_string());
                None
            }
        };
        let layout = if lock.is_some() { Layout::prepare(&config.instance) } else { Layout::none() };
        let mut host = Host { layout, subnet: None, network_error: None, _lock: lock };
        if report.fatal.is_some() {
            return (host, report);
        }
        host.sweep(config, &mut report);
        if let Err(error) = make_directories(config) {
            report.fatal = Some(format!("{}: {error}", config.state_dir.display()));
        }
        let connected = match cut_off {
            Some(reason) => Err(io::Error::other(reason)),
            None => connect(config),
        };
        match connected {
            Ok(subnet) => host.subnet = Some(subnet),
            Err(error) => host.network_error = Some(error.to_string()),
        }
        report.subnet = host.subnet.map(Subnet::text);
        report.network_error.clone_from(&host.network_error);
        report.cgroup_mode = host.layout.mode.into();
        report.missing_controllers.clone_from(&host.layout.missing);
        (host, report)
    }

    fn sweep(&self, config: &HelperConfig, report: &mut HostReport) {
        for group in self.layout.leftovers() {
            report.cgroups += usize::from(group.remove().is_ok());
        }
        report.interfaces = net::sweep(&config.instance);
        let containers = fs::read_dir(config.state_dir.join("containers"));
        for entry in containers.into_iter().flatten().flatten() {
            report.containers += usize::from(janitor::remove_tree(&entry.path()).is_ok());
        }
        release_left_over(config);
    }

    pub(crate) fn release(&self, config: &HelperConfig) {
        self.layout.remove();
        if let Some(subnet) = self.subnet {
            release_subnet(config, subnet);
        }
    }
}

fn lock(config: &HelperConfig) -> io::Result<fs::File> {
    fs::create_dir_all(&config.state_dir)?;
    let path = config.state_dir.join("helper.lock");
    let file = fs::File::options().create(true).truncate(false).write(true).open(&path)?;
    let deadline = Instant::now() + LOCK_WAIT;
    while !sys::lock_file(file.as_fd())? {
        if Instant::now() > deadline {
            let words = format!("another process runs containers in {}", config.state_dir.display());
            return Err(io::Error::other(words));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

/// Directories below the state directory: where to mount, what a container needs at the bottom of its root, scratch.
fn make_directories(config: &HelperConfig) -> io::Result<()> {
    let make = |path: &str| fs::create_dir_all(config.state_dir.join(path));
    make("containers")?;
    // Scratch files belong to tenants; other users of the host have no business with them.
    fs::set_permissions(config.state_dir.join("containers"), fs::Permissions::from_mode(0o700))?;
    make("attach/root")?;
    make("attach/files")?;
    make("attach/gpu")?;
    for path in ["points", "points/proc", "points/sys", "points/dev", "points/tmp", "points/etc"] {
        make(path)?;
        let path = config.state_dir.join(path);
        chown(&path, Some(config.base), Some(config.base))?;
        let mode = if path.ends_with("tmp") { 0o1777 } else { 0o755 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        let path = config.state_dir.join("points/etc").join(file);
        fs::File::create(&path)?;
        chown(&path, Some(config.base), Some(config.base))?;
    }
    Ok(())
}

fn connect(config: &HelperConfig) -> io::Result<Subnet> {
    let mut netlink = Netlink::open()?;
    let subnet = Subnet::reserve(&mut netlink)?;
    fs::write(config.state_dir.join("subnet"), subnet.0.to_string())?;
    firewall::load(&config.instance, subnet, &config.resolvers, config.rootless)
        .inspect_err(|_| subnet.release(&mut netlink))?;
    Ok(subnet)
}

/// Gives back the address range that an earlier, killed helper reserved.
fn release_left_over(config: &HelperConfig) {
    let number =
        fs::read_to_string(config.state_dir.join("subnet")).ok().and_then(|text| text.trim().parse().ok());
    if let Some(number) = number.filter(|_| !config.rootless) {
        release_subnet(config, Subnet(number));
    }
}

fn release_subnet(config: &HelperConfig, subnet: Subnet) {
    if let Ok(mut netlink) = Netlink::open() {
        subnet.release(&mut netlink);
    }
    firewall::remove(&config.instance);
    let _ = fs::remove_file(config.state_dir.join("subnet"));
}
