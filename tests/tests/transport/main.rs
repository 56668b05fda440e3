//! The gRPC ports of the control plane: who is let in, how much he may ask for, and how he is told to leave.

mod floods;
mod leaving;
mod limits;
mod plane;
mod raw;
mod services;
mod shares;
mod tls;
