//! Listening sockets: TCP and Unix domain ones, opened with what every listener needs.
//!
//! The main thread opens them before anything runs, and takes a Unix socket's file away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::platform::address::Address;

/// Connections that the kernel may hold for us; std's 128 would drop a probe's SYN in a burst.
const BACKLOG: i32 = 4096;

/// What the kernel may hold for each TCP connection, each way, before it tells the client to wait or
/// the server that the client does not read (it adds as much again for its own bookkeeping).
///
/// Left to itself it goes up to 4 MiB for answers and 6 for requests (tcp(7)), which no budget of
/// ours would see.
pub const KERNEL_BUFFER_BYTES: usize = 64 << 10;

/// A listening socket, before anything accepts from it.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The socket; accepting from it never waits.
    pub socket: Socket,
    /// Where it is, with the port that was given.
    pub address: Address,
    /// Its file, if it has one that is ours.
    pub file: Option<SocketFile>,
    /// Whether it was opened by somebody else, who goes on holding it.
    pub inherited: bool,
}

/// The file of a Unix domain socket; dropping this takes it away, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own there.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Opens a listening socket; `mode` is for the file of a Unix domain socket.
///
/// A socket file that nobody listens on is replaced.
///
/// # Errors
/// Where the address is taken or not ours to take.
pub fn open(address: &Address, mode: u32) -> io::Result<ListeningSocket> {
    match address {
        Address::Tcp(at) => {
            let socket = Socket::new(Domain::for_address(*at), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            set_for_accepted(&socket)?;
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
            // Before it listens, so that nobody connects who may not.
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

/// Takes a socket that listens already; its backlog is whoever's who opened it.
///
/// # Errors
/// Where the system refuses to say where it is.
pub fn adopt(socket: Socket) -> io::Result<ListeningSocket> {
    let at = socket.local_addr()?;
    let address = match (at.as_socket(), at.as_pathname()) {
        (Some(tcp), _) => {
            set_for_accepted(&socket)?;
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

/// Sets what the sockets that are accepted from a TCP listener inherit.
fn set_for_accepted(socket: &Socket) -> io::Result<()> {
    // An answer is one write, and waiting would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)
}

fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)
}

/// Removes a socket file that a server has left behind.
fn clear_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    let visitor = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    visitor.set_nonblocking(true)?;
    match visitor.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full backlog is somebody's too.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
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
        // As after a crash: the socket is gone, its file is not.
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
