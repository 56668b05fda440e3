//! Value of a patch: a message of the type of its `applyTo`, and its merge plan.

use pilot_proto::envoy::config::cluster::v3::Cluster;
use pilot_proto::envoy::config::core::v3::{TransportSocket, TypedExtensionConfig, transport_socket};
use pilot_proto::envoy::config::listener::v3::{
    Filter, FilterChain, Listener, ListenerFilter, filter, listener_filter,
};
use pilot_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use pilot_proto::google::protobuf::Any;
use pilot_proto::merge::{Lists, Overlay};
use pilot_proto::proto3_json::JsonError;
use prost::{Message, Name};

use super::Patch;
use super::outcome::Verdict;

/// Merge plan of a value, created once for each patch. The content of an `Any` is merged separately.
#[derive(Debug)]
pub(super) struct Merge {
    /// Everything except `config`.
    pub(super) rest: Overlay,
    /// Configuration of a filter, or of the transport socket of a cluster or a filter chain.
    pub(super) config: Option<Overlay>,
}

/// Type of object that patches apply to.
pub(super) trait Thing: Message + Name + Default + Clone {
    /// Converts to the value of a patch.
    fn into_value(self) -> Value;

    /// Returns the value of a patch for this type.
    fn of(value: &Value) -> Option<&Self>;

    /// Takes out the configuration that is merged separately.
    fn take_config(&mut self) -> Option<Any> {
        None
    }

    /// Returns `true` if it has a name and lacks the configuration that Envoy identifies it by.
    fn is_bare(&self) -> bool {
        false
    }
}

/// Filter or transport socket: a name and a configuration.
pub(super) trait Configured {
    fn name(&self) -> &str;
    fn config_mut(&mut self) -> Option<&mut Any>;
}

macro_rules! values {
    ($($kind:ident($message:ident) $({ $($own:tt)* })?)*) => {
        /// Message of a patch.
        #[derive(Debug)]
        pub(super) enum Value {
            $($kind(Box<$message>),)*
        }

        $(impl Thing for $message {
            fn into_value(self) -> Value {
                Value::$kind(Box::new(self))
            }

            fn of(value: &Value) -> Option<&Self> {
                match value {
                    Value::$kind(message) => Some(message),
                    _ => None,
                }
            }

            $($($own)*)?
        })*
    };
}

macro_rules! filter {
    ($kinds:ident) => {
        fn take_config(&mut self) -> Option<Any> {
            self.config_mut()?;
            match self.config_type.take()? {
                $kinds::ConfigType::TypedConfig(config) => Some(config),
                $kinds::ConfigType::ConfigDiscovery(_) => None,
            }
        }

        fn is_bare(&self) -> bool {
            !self.name.is_empty() && self.config_type.is_none()
        }
    };
}

macro_rules! with_socket {
    () => {
        fn take_config(&mut self) -> Option<Any> {
            let transport_socket::ConfigType::TypedConfig(config) =
                self.transport_socket.take()?.config_type?;
            Some(config)
        }
    };
}

values! {
    Listener(Listener)
    ListenerFilter(ListenerFilter) { filter!(listener_filter); }
    FilterChain(FilterChain) { with_socket!(); }
    NetworkFilter(Filter) { filter!(filter); }
    HttpFilter(HttpFilter) { filter!(http_filter); }
    RouteConfiguration(RouteConfiguration)
    VirtualHost(VirtualHost)
    HttpRoute(Route)
    Cluster(Cluster) { with_socket!(); }
    ExtensionConfig(TypedExtensionConfig)
}

macro_rules! configured {
    ($($message:ident: $kinds:ident)*) => {
        $(impl Configured for $message {
            fn name(&self) -> &str {
                &self.name
            }

            fn config_mut(&mut self) -> Option<&mut Any> {
                match self.config_type.as_mut()? {
                    $kinds::ConfigType::TypedConfig(config) => Some(config),
                    #[allow(unreachable_patterns, reason = "a transport socket has no other")]
                    _ => None,
                }
            }
        })*
    };
}

configured! {
    ListenerFilter: listener_filter
    Filter: filter
    HttpFilter: http_filter
    TransportSocket: transport_socket
}

// === impl Merge ===

impl Merge {
    pub(super) fn of<T: Thing>(value: &T, lists: Lists) -> Result<Self, JsonError> {
        let mut rest = value.clone();
        let config = rest.take_config().map(|config| Overlay::of_any(&config, lists)).transpose()?;
        Ok(Self { rest: Overlay::of(&rest, lists)?, config })
    }

    /// Merges the configuration into that of a filter or transport socket.
    pub(super) fn configure<C: Configured>(&self, target: &mut C) -> Result<(), String> {
        if let (Some(config), Some(own)) = (&self.config, target.config_mut()) {
            *own = config.onto_any(own).map_err(|error| explain(&error))?;
        }
        Ok(())
    }
}

impl Patch {
    /// Returns the value for this type.
    pub(super) fn brings<T: Thing>(&self) -> Option<&T> {
        self.value.as_ref().and_then(T::of)
    }

    /// Merges the value into an object.
    pub(super) fn merge_into<T: Thing>(&self, target: &mut T) -> Verdict {
        self.merge_with(target, |_, _| Ok(()))
    }

    /// Merges the value into a filter.
    pub(super) fn merge_into_filter<T: Thing + Configured>(&self, target: &mut T) -> Verdict {
        if target.config_mut().is_none() {
            // The configuration of the filter is in another resource.
            return Verdict::NotMatched;
        }
        self.merge_with(target, Merge::configure)
    }

    /// Merges everything except the configuration, then applies `config` to the result; both or nothing.
    pub(super) fn merge_with<T: Thing>(
        &self,
        target: &mut T,
        config: impl FnOnce(&Merge, &mut T) -> Result<(), String>,
    ) -> Verdict {
        let Some(merge) = &self.merge else { return Verdict::NotMatched };
        let merged = merge.rest.onto(target).map_err(|error| explain(&error));
        match merged.and_then(|mut merged| config(merge, &mut merged).map(|()| merged)) {
            Ok(merged) => {
                *target = merged;
                Verdict::Applied
            }
            Err(reason) => Verdict::Failed(reason),
        }
    }
}

/// Formats an error with its causes.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", explain(source)),
        None => error.to_string(),
    }
}
