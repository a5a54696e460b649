//! The closed sets of words of relay.yaml.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Closed sets of words.
macro_rules! words {
    ($($(#[$doc:meta])* $set:ident { $($(#[$word_doc:meta])* $word:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $set { $($(#[$word_doc])* $word,)* }
    )*};
}

words! {
    /// Before or after the corporate proxy.
    Placement {
        /// Before the corporate proxy.
        Pre,
        /// After it.
        Post,
    }

    /// What may arrive.
    Protocols {
        /// TLS.
        Tls,
        /// HTTP CONNECT.
        Connect,
        /// HTTP without TLS.
        Plain,
    }

    /// Presets.
    Provider {
        /// Apple Push Notification service.
        Apns,
        /// Firebase Cloud Messaging.
        Fcm,
        /// Mattermost's hosted push proxies.
        Mattermost,
    }

    /// Environments of APNs.
    Environment {
        /// api.push.apple.com and its siblings.
        Production,
        /// api.sandbox.push.apple.com and its siblings.
        Sandbox,
    }

    /// What happens to the sender's TLS.
    Tls {
        /// It ends here.
        Terminate,
        /// It is carried untouched.
        Passthrough,
    }

    /// How a sender is told that a push was not sent.
    WhenUnsent {
        /// Refuse the stream to Go's client while an outage is young, else answer.
        Auto,
        /// Always answer.
        Answer,
        /// Always refuse the stream.
        Refuse,
    }

    /// How a sender is told that nobody knows.
    WhenUnknown {
        /// With an answer that no sender repeats.
        Final,
        /// With an answer that senders repeat.
        Retry,
    }

    /// What is spoken to the origin.
    Protocol {
        /// By ALPN.
        Auto,
        /// HTTP/2 or nothing.
        H2,
        /// HTTP/1.1.
        Http1,
    }

    /// The form of the relay's own answers.
    Dialect {
        /// {"reason": ...}
        Apns,
        /// google.rpc.Status.
        Fcm,
        /// {"status": "FAIL", ...}
        Mattermost,
        /// JSON of our own.
        Plain,
    }

    /// The hosts file.
    HostsFile {
        /// Not read.
        Never,
        /// Read first.
        Use,
    }

    /// How log lines look.
    LogFormat {
        /// For people.
        Text,
        /// One JSON object a line.
        Json,
        /// journald fields.
        Journald,
    }

    /// How much is logged.
    Level {
        /// Errors.
        Error,
        /// And warnings.
        Warn,
        /// And what operators want to know.
        Info,
        /// And what developers want to know.
        Debug,
        /// Everything.
        Trace,
    }

    /// On or off.
    Switch {
        /// On.
        On,
        /// Off.
        Off,
    }

    /// What happens when the audit log cannot be written.
    WhenFull {
        /// The record is dropped and counted.
        Drop,
        /// The exchange is refused.
        Refuse,
    }
}
