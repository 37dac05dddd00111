//! The state folder: who holds it, the token, and what must be true before any work starts.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clunk_core::api::ServerFile;
use clunk_core::error::{ErrorBody, ErrorCode};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::seal;

/// What every state folder holds in `format`; a later layout raises it.
const FORMAT: &str = "clunk state 1\n";
const TOKEN_BYTES: usize = 32;

/// A state folder that this process alone works with.
pub struct StateDir {
    pub path: PathBuf,
    /// Locked as long as this lives; the kernel unlocks it when the process dies, however it dies.
    _lock: File,
}

/// How long a killed server may take to be gone.
const DYING_LIMIT: Duration = Duration::from_secs(5);
const DYING_LOOK: Duration = Duration::from_millis(10);

impl StateDir {
    /// Takes the folder, making it when it is new. Fails when another server has it.
    pub fn take(path: &Path) -> Result<Self, ErrorBody> {
        let failed = |error: io::Error| {
            let text = format!("could not use the state folder {}: {error}", path.display());
            ErrorBody::new(ErrorCode::CorruptState, text)
                .hint("set CLUNK_HOME to a folder that you may write to")
        };
        fs::create_dir_all(path).map_err(failed)?;
        // Inputs, outputs, logs and sources of models lie in it: nobody's business but its owner's. Containers see parts
        // of it through mounts, which need no way to it.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        lock_for_us(&lock, path).map_err(|errno| match errno {
            Errno::WOULDBLOCK => already_running(path),
            errno => failed(errno.into()),
        })?;
        // Who holds it, for `clunk down` while the server starts or stops. Only a word to people: the lock decides.
        let _ = lock.set_len(0).and_then(|()| (&lock).write_all(std::process::id().to_string().as_bytes()));
        check_format(path)?;
        let _ = fs::remove_file(path.join("server.json"));
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Tells local clients where the server is.
    pub fn announce(&self, url: &str) -> io::Result<()> {
        let file = ServerFile { url: url.into(), pid: std::process::id(), version: crate::VERSION.into() };
        write_atomically(&self.path.join("server.json"), &serde_json::to_vec(&file)?, 0o644)
    }

    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.path.join("server.json"));
        let _ = fs::remove_file(self.path.join(clunk_core::api::SOCKET_FILE));
    }
}

/// Locks the file. A killed server holds its lock until its last thread is gone: that is waited for.
fn lock_for_us(lock: &File, path: &Path) -> Result<(), Errno> {
    let patience = Instant::now() + DYING_LIMIT;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if holder_is_dying(path) && Instant::now() < patience => {
                std::thread::sleep(DYING_LOOK);
            }
            locked => return locked,
        }
    }
}

/// Whether the process that took the lock has been killed: it is gone, or ends.
fn holder_is_dying(path: &Path) -> bool {
    let holder = fs::read_to_string(path.join("lock")).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(pid) = holder else { return false };
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state stands behind the name, which is in parentheses.
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

fn already_running(path: &Path) -> ErrorBody {
    let running = fs::read(path.join("server.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<ServerFile>(&text).ok());
    let text = match running {
        Some(server) => format!("a server is running already: {} (process {})", server.url, server.pid),
        None => format!(
            "another process is starting or stopping a server with the state folder {}",
            path.display()
        ),
    };
    ErrorBody::new(ErrorCode::AlreadyRunning, text).hint("`clunk status` shows it, `clunk down` stops it")
}

fn check_format(path: &Path) -> Result<(), ErrorBody> {
    let file = path.join("format");
    let corrupt = |text: String| {
        let hint = format!("move the folder away and start again: mv {0} {0}.broken", path.display());
        ErrorBody::new(ErrorCode::CorruptState, text).hint(hint)
    };
    match fs::read_to_string(&file) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) => Err(corrupt(format!(
            "{} holds {:?}, not a format this version knows",
            file.display(),
            text.trim()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_atomically(&file, FORMAT.as_bytes(), 0o644).map_err(|error| corrupt(error.to_string()))
        }
        Err(error) => Err(corrupt(format!("could not read {}: {error}", file.display()))),
    }
}

pub(crate) fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// The secret that opens the API. Its Debug prints nothing of it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the state folder's token, making it at the first start.
    pub fn load(state: &StateDir) -> Result<Self, ErrorBody> {
        let path = state.path.join("token");
        let failed = |error: &dyn fmt::Display| {
            let text = format!("could not use the token file {}: {error}", path.display());
            ErrorBody::new(ErrorCode::CorruptState, text)
                .hint("remove the file: the next start makes a new token")
        };
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() == 2 * TOKEN_BYTES => Ok(Self(text.trim().into())),
            Ok(_) => Err(failed(&"it does not hold a token")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; TOKEN_BYTES];
                getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
                let token = hex::encode(bytes);
                write_atomically(&path, format!("{token}\n").as_bytes(), 0o600)
                    .map_err(|error| failed(&error))?;
                Ok(Self(token))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    pub fn matches(&self, given: &str) -> bool {
        seal::same(&self.0, given)
    }

    /// HMAC-SHA256 of a message, under the token.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        seal::sign(self.0.as_bytes(), message)
    }

    /// A token of this text.
    #[cfg(test)]
    pub fn test(text: &str) -> Self {
        Self(text.repeat(2 * TOKEN_BYTES))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A port that is ours, before any work starts.
pub struct Bound {
    pub listener: TcpListener,
    pub url: String,
}

impl Bound {
    pub fn bind(host: &str, port: u16) -> Result<Self, ErrorBody> {
        let listener = TcpListener::bind((host, port)).map_err(|error| {
            let text = format!("could not listen on {host}:{port}: {error}");
            let code = if error.kind() == io::ErrorKind::AddrInUse {
                ErrorCode::PortTaken
            } else {
                ErrorCode::BadRequest
            };
            ErrorBody::new(code, text)
                .hint(format!("choose another port: clunk up --port {}", port.wrapping_add(1).max(1024)))
        })?;
        let address =
            listener.local_addr().map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        Ok(Self { listener, url: format!("http://{address}") })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_server_per_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateDir::take(folder.path()).unwrap();
        held.announce("http://127.0.0.1:1").unwrap();
        let error = StateDir::take(folder.path()).err().unwrap();
        assert_eq!(error.code, ErrorCode::AlreadyRunning);
        assert!(error.message.contains("http://127.0.0.1:1"), "{}", error.message);
        drop(held);
        assert!(StateDir::take(folder.path()).is_ok());
    }

    #[test]
    fn the_token_is_kept_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::take(folder.path()).unwrap();
        let token = Token::load(&state).unwrap();
        let path = folder.path().join("token");
        let text = fs::read_to_string(&path).unwrap();
        assert!(Token::load(&state).unwrap().matches(text.trim()) && token.matches(text.trim()));
        assert!(!token.matches("") && !token.matches(&"0".repeat(64)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{token:?}"), "[redacted]");
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("format"), "something else").unwrap();
        assert_eq!(StateDir::take(folder.path()).err().unwrap().code, ErrorCode::CorruptState);
        assert_eq!(fs::read_to_string(folder.path().join("format")).unwrap(), "something else");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Bound::bind("127.0.0.1", taken.local_addr().unwrap().port()).err().unwrap();
        assert_eq!(error.code, ErrorCode::PortTaken);
    }
}
