//! What a patch brings: a message of the type that its `applyTo` asks for, and how that is merged.

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

/// How a value is merged, made once for each patch. What an `Any` holds is merged on its own.
#[derive(Debug)]
pub(super) struct Merge {
    /// Without what `config` is of.
    pub(super) rest: Overlay,
    /// A filter's configuration, or that of the transport socket of a cluster or a filter chain.
    pub(super) config: Option<Overlay>,
}

/// A thing that patches are applied to.
pub(super) trait Thing: Message + Name + Default + Clone {
    /// This as a patch's value.
    fn into_value(self) -> Value;

    /// The value of a patch that is for such things.
    fn of(value: &Value) -> Option<&Self>;

    /// Takes out the configuration that is merged on its own.
    fn take_config(&mut self) -> Option<Any> {
        None
    }

    /// Whether it names something and lacks the configuration that Envoy finds it by.
    fn is_bare(&self) -> bool {
        false
    }
}

/// A filter or a transport socket: a name and a configuration.
pub(super) trait Configured {
    fn name(&self) -> &str;
    fn config_mut(&mut self) -> Option<&mut Any>;
}

macro_rules! values {
    ($($kind:ident($message:ident) $({ $($own:tt)* })?)*) => {
        /// The message that a patch brings.
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
    /// What it brings for such a thing.
    pub(super) fn brings<T: Thing>(&self) -> Option<&T> {
        self.value.as_ref().and_then(T::of)
    }

    /// Merges what it brings into a thing as a whole.
    pub(super) fn merge_into<T: Thing>(&self, target: &mut T) -> Verdict {
        self.merge_with(target, |_, _| Ok(()))
    }

    /// Merges what it brings into a filter.
    pub(super) fn merge_into_filter<T: Thing + Configured>(&self, target: &mut T) -> Verdict {
        if target.config_mut().is_none() {
            // What it is configured with comes from elsewhere.
            return Verdict::NotMatched;
        }
        self.merge_with(target, Merge::configure)
    }

    /// Merges all but the configuration, then does `config` with what came out; both or nothing.
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

/// An error with its causes.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", explain(source)),
        None => error.to_string(),
    }
}
