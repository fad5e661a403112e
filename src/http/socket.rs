//! Listening sockets, TCP and Unix, opened with the options every listener needs.
//!
//! The main thread opens them before anything runs and removes a Unix socket's file at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::platform::address::Address;

/// Length of the kernel's backlog; std's 128 would lose a probe's SYN in a burst.
const BACKLOG: i32 = 4096;

/// Size of the kernel's buffer of a TCP connection, for each direction. If it is full, the sender waits.
/// The kernel doubles it for its bookkeeping.
///
/// By default it grows to 4 MiB for answers and 6 MiB for requests (tcp(7)), and `--max-buffered` does not
/// count that memory.
pub const KERNEL_BUFFER_BYTES: usize = 64 << 10;

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The socket, non-blocking.
    pub socket: Socket,
    /// Its address, with the port that the kernel chose.
    pub address: Address,
    /// Its file, if this process created one.
    pub file: Option<SocketFile>,
    /// Whether the service manager opened it (socket activation) and keeps it.
    pub inherited: bool,
}

/// The file of a Unix socket. Dropping this removes it if it is still the same file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next server may have put its own in its place.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Opens a listening socket; `mode` sets the permissions of a Unix socket's file.
///
/// A stale socket file is replaced.
///
/// # Errors
///
/// The address is taken or not permitted, or a file that is not a socket has that path.
pub fn open(address: &Address, mode: u32) -> io::Result<ListeningSocket> {
    match address {
        Address::Tcp(at) => {
            let socket = Socket::new(Domain::for_address(*at), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            set_inherited_options(&socket)?;
            socket.bind(&(*at).into())?;
            listen(&socket)?;
            let bound = socket.local_addr()?.as_socket().unwrap_or(*at);
            Ok(ListeningSocket {
                socket,
                address: Address::Tcp(bound),
                file: None,
                inherited: false,
            })
        }
        Address::Unix(path) => {
            clear_stale(path)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            let file = SocketFile {
                path: path.clone(),
                identity: identity(path)?,
            };
            // Set before it listens, so that nobody can connect without permission.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            listen(&socket)?;
            Ok(ListeningSocket {
                socket,
                address: address.clone(),
                file: Some(file),
                inherited: false,
            })
        }
    }
}

/// Takes over a listening socket from the service manager, which chose its backlog.
///
/// # Errors
///
/// The system does not tell its address, or does not take the options.
pub fn adopt(socket: Socket) -> io::Result<ListeningSocket> {
    let at = socket.local_addr()?;
    let address = match (at.as_socket(), at.as_pathname()) {
        (Some(tcp), _) => {
            set_inherited_options(&socket)?;
            Address::Tcp(tcp)
        }
        (None, Some(path)) => Address::Unix(path.to_owned()),
        (None, None) => {
            let name = at.as_abstract_namespace().unwrap_or_default();
            Address::Unix(format!("@{}", String::from_utf8_lossy(name)).into())
        }
    };
    socket.set_nonblocking(true)?;
    Ok(ListeningSocket {
        socket,
        address,
        file: None,
        inherited: true,
    })
}

/// Sets options that accepted TCP connections inherit.
fn set_inherited_options(socket: &Socket) -> io::Result<()> {
    // An answer is one write, and waiting for more would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)
}

fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)
}

/// Removes the socket file of a server that is gone.
fn clear_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is there",
        ));
    }
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    match client.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        // Connected, or the backlog is full: somebody listens.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_or_another_file_is_not() {
        let directory = std::env::temp_dir().join(format!("lanekeeper-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("a.sock");
        let address = Address::Unix(path.clone());
        let mut live = open(&address, 0o600).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = open(&address, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // As after a crash: the socket is gone, its file is still there.
        std::mem::forget(live.file.take());
        drop(live);
        assert!(path.exists());
        let again = open(&address, 0o666).unwrap();
        drop(again);
        assert!(!path.exists(), "it goes with its server");
        fs::write(&path, "precious").unwrap();
        let error = open(&address, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(&directory).unwrap();
    }
}
