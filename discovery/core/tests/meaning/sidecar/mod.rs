//! `Sidecar`: ingress and egress listeners.

mod egress;
mod ingress;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[egress::TABLES, ingress::TABLES];
