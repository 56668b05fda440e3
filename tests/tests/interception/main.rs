//! Interception by netfilter as in a cluster: pods in network namespaces of their own, and workloads that are not aware of the
//! proxy. Undeclared egress, declared egress, and ingress.
//!
//! The tests need root, iproute2 and iptables; `.ci/run` runs them.

mod egress;
mod inbound;
mod pod;
