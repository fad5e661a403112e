//! The listening sockets, before anything accepts from them: inherited from a service manager, or
//! opened at the configured addresses.

use std::io;

use socket2::{Domain, Socket, Type};

use crate::config::{Config, ProbeListen};
use crate::error::StartError;
use crate::http::socket::{self, ListeningSocket, SocketFile};
use crate::platform::address::Address;
use crate::platform::sys;
use crate::platform::systemd::ActivatedSocket;
use crate::protocol::routes::ListenerKind;

/// `FileDescriptorName=` of the main and of the probe listener.
const MAIN_NAME: &str = "predict";
const PROBE_NAME: &str = "probe";

/// The listening sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) main: ListeningSocket,
    pub(super) probe: Option<ListeningSocket>,
}

impl Sockets {
    /// Takes what a service manager has opened, and opens the rest.
    ///
    /// # Errors
    ///
    /// An address cannot be opened, or an inherited descriptor is not a listening socket of the
    /// right kind.
    pub(super) fn open(
        config: &Config,
        inherited: Vec<ActivatedSocket>,
    ) -> Result<Self, StartError> {
        let open = |kind: ListenerKind, address: &Address| {
            socket::open(address, config.socket_mode)
                .map_err(|error| cannot_listen(config, kind, address, &error))
        };
        let [main, probe] = assign(inherited)?;
        let main = match main {
            Some(main) => main,
            None => open(ListenerKind::Main, &config.listen)?,
        };
        let probe_address = match (&probe, &config.probe_listen) {
            (Some(_), _) | (None, ProbeListen::Off) => None,
            (None, ProbeListen::At(address)) => Some(address.clone()),
            (None, ProbeListen::Beside) => Some(beside(config, &main)?),
        };
        // Without the requested one, another process's listener might answer this server's probes.
        let probe = match probe_address {
            Some(address) => Some(open(ListenerKind::Probe, &address)?),
            None => probe,
        };
        Ok(Sockets { main, probe })
    }

    /// Takes the files to remove at the end.
    pub(super) fn take_files(&mut self) -> Vec<SocketFile> {
        let probe = self.probe.as_mut().and_then(|probe| probe.file.take());
        self.main.file.take().into_iter().chain(probe).collect()
    }
}

/// Assigns the inherited sockets to main and probe: by name, and those without one of the two names
/// in order.
fn assign(inherited: Vec<ActivatedSocket>) -> Result<[Option<ListeningSocket>; 2], StartError> {
    let mut places = [None, None];
    let (named, others): (Vec<_>, Vec<_>) = inherited.into_iter().partition(|socket| {
        let name = socket.name.as_deref();
        name == Some(MAIN_NAME) || name == Some(PROBE_NAME)
    });
    for socket in named.into_iter().chain(others) {
        let name = socket.name.clone().unwrap_or_default();
        let place = match name.as_str() {
            MAIN_NAME => 0,
            PROBE_NAME => 1,
            _ => usize::from(places[0].is_some()),
        };
        if places[place].is_some() {
            return Err(StartError::Failed(format!(
                "at most two sockets can be passed, one named {MAIN_NAME} (FileDescriptorName=) and one named {PROBE_NAME}, but there is one more, named {name:?}"
            )));
        }
        places[place] = Some(adopt(socket, &name)?);
    }
    Ok(places)
}

fn adopt(inherited: ActivatedSocket, name: &str) -> Result<ListeningSocket, StartError> {
    let socket = Socket::from(inherited.descriptor);
    let domain = socket.domain().ok();
    let known = [Domain::IPV4, Domain::IPV6, Domain::UNIX];
    let fits = domain.is_some_and(|domain| known.contains(&domain))
        && socket.r#type().ok() == Some(Type::STREAM)
        && socket.is_listener().unwrap_or(false);
    if !fits {
        return Err(StartError::Failed(format!(
            "a socket that is passed must be a stream socket that listens, TCP or Unix (ListenStream=, Accept=no), but the one named {name:?} is not"
        )));
    }
    socket::adopt(socket).map_err(|error| {
        StartError::system(
            format!("cannot use the socket named {name:?}: {error}"),
            &error,
        )
    })
}

/// The probe listener's address if none was given.
fn beside(config: &Config, main: &ListeningSocket) -> Result<Address, StartError> {
    // As requested: next to port 0 is another free port.
    let address = if main.inherited {
        // Whoever opened the main one could have opened this one; elsewhere nobody would find it.
        let tcp = main.address.port().is_some();
        let ours = tcp && is_within_reach(&main.address, &main.socket);
        ours.then(|| main.address.beside()).flatten()
    } else {
        config.listen.beside()
    };
    address.ok_or_else(|| {
        StartError::Failed(format!(
            "cannot open a probe listener: there is no address beside {}; {}choose one with --probe-listen, or leave probes to the main listener with --probe-listen none",
            main.address.typed(),
            if main.inherited {
                "pass a socket named probe (FileDescriptorName=), or "
            } else {
                ""
            }
        ))
    })
}

fn cannot_listen(
    config: &Config,
    kind: ListenerKind,
    address: &Address,
    error: &io::Error,
) -> StartError {
    let (option, none) = match kind {
        ListenerKind::Main => ("--listen", ""),
        ListenerKind::Probe => (
            "--probe-listen",
            ", or leave probes to the main listener with --probe-listen none",
        ),
    };
    let option = config.variables.name(option);
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop the process that holds it, or choose another with {option}")
        }
        io::ErrorKind::PermissionDenied if address.path().is_some() => {
            format!("its folder must be writable; choose another path with {option}")
        }
        io::ErrorKind::AlreadyExists => format!("choose another path with {option}"),
        io::ErrorKind::NotFound => {
            format!("its folder must exist; choose another path with {option}")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose another with {option}"
            )
        }
        _ => format!("choose an address of this machine with {option}"),
    };
    let what = match kind {
        ListenerKind::Main => "",
        ListenerKind::Probe => " for probes",
    };
    let text = format!(
        "cannot listen on {}{what}: {error}; {remedy}{none}",
        address.typed()
    );
    StartError::system(text, error)
}

/// Whether this process can connect to a listening socket: an inherited TCP socket may be in
/// another network namespace, or of a family that a seccomp filter denies.
pub(super) fn is_within_reach(address: &Address, socket: &Socket) -> bool {
    match address {
        Address::Tcp(at) => {
            let own = Socket::new(Domain::for_address(*at), Type::STREAM, None);
            let same = |own: Socket| {
                // A kernel before 5.14 does not say.
                match (sys::network_namespace(&own), sys::network_namespace(socket)) {
                    (Some(own), Some(its)) => own == its,
                    _ => true,
                }
            };
            own.is_ok_and(same)
        }
        // An abstract one is shown with an @ and has no path.
        Address::Unix(path) => path.is_absolute(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;

    use super::*;

    fn passed(name: &str, descriptor: impl Into<OwnedFd>) -> ActivatedSocket {
        ActivatedSocket {
            name: (!name.is_empty()).then(|| name.to_owned()),
            descriptor: descriptor.into(),
        }
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn sockets_find_their_place_by_name_and_without_one_in_order() {
        let table: &[(&[&str], [Option<usize>; 2])] = &[
            (&[], [None, None]),
            (&["predict"], [Some(0), None]),
            (&["probe"], [None, Some(0)]),
            (&["probe", "predict"], [Some(1), Some(0)]),
            (&[""], [Some(0), None]),
            (&["", ""], [Some(0), Some(1)]),
            (&["lanekeeper.socket", "other"], [Some(0), Some(1)]),
            (&["", "predict"], [Some(1), Some(0)]),
            (&["", "probe"], [Some(0), Some(1)]),
        ];
        for (names, expected) in table {
            let sockets: Vec<TcpListener> = names.iter().map(|_| listener()).collect();
            let addresses: Vec<Address> = sockets
                .iter()
                .map(|socket| socket.local_addr().unwrap().into())
                .collect();
            let inherited = names.iter().zip(sockets);
            let inherited = inherited.map(|(name, socket)| passed(name, socket));
            let places = assign(inherited.collect()).unwrap();
            let found = places.map(|place| {
                let address = place?.address;
                addresses.iter().position(|other| *other == address)
            });
            assert_eq!(found, *expected, "{names:?}");
        }
    }

    #[test]
    fn what_does_not_listen_and_what_is_too_many_is_refused() {
        let connected = std::net::TcpStream::connect(listener().local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        for descriptor in [
            OwnedFd::from(connected),
            OwnedFd::from(datagrams),
            OwnedFd::from(reader),
        ] {
            let error = assign(vec![passed("predict", descriptor)]).unwrap_err();
            assert!(
                error.to_string().contains("must be a stream socket"),
                "{error}"
            );
        }
        for names in [["predict", "predict", ""], ["", "", ""]] {
            let sockets = names.map(|name| passed(name, listener()));
            let error = assign(sockets.into()).unwrap_err();
            assert!(error.to_string().contains("at most two"), "{error}");
        }
    }
}
