//! What a service manager sees: datagrams on its notify socket, activated sockets, reloads, restarts.

mod activation;
mod manager;
mod notify;
mod reload;
mod units;
