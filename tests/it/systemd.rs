//! The server under a service manager: its notify socket, socket activation, reloads, restarts.

mod activation;
mod manager;
mod notify;
mod reload;
mod units;
