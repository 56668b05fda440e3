//! The gRPC ports of the control plane: TLS, limits, other services, shutdown.

mod connection_shares;
mod control_plane;
mod floods;
mod limits;
mod raw;
mod services;
mod shutdown;
mod tls;
