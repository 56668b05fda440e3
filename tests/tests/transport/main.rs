//! The gRPC ports of the control plane: who is let in, how much he may ask for, and how he is told to leave.

mod connection_shares;
mod control_plane;
mod floods;
mod limits;
mod raw;
mod services;
mod shutdown;
mod tls;
