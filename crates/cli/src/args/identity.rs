//! Arguments about who is who: certificates, tokens, and what a command shows of itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use muster_identity::limits::CERTIFICATE_DAYS;
use muster_identity::{CertificateRole, Role};

/// What a command shows of itself to coordinators, and how it knows them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AccessArgs {
    /// Speak TLS with coordinators whose certificates are of this authority
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_TLS_CA", hide_env_values = true)]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate to show
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_TLS_CERT", hide_env_values = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_TLS_KEY", hide_env_values = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// File with a token to show; MUSTER_TOKEN is one itself
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster certs init
  muster certs issue node-1 --role node --host ci-1.example,10.0.0.1
  muster certs issue w1 --role worker")]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) what: CertsCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a certificate authority: ca.pem, and ca.key, which stays where it is
    Init {
        /// Where it is kept [default: muster/certs in the configuration directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Issue a certificate: NAME.pem and NAME.key
    Issue {
        /// To whom
        #[arg(value_name = "NAME")]
        name: String,
        /// For what
        #[arg(long, value_name = "ROLE", default_value = "client")]
        role: CertificateRoleArg,
        /// Names and addresses under which a node is dialled
        #[arg(long, value_name = "HOST,IP", value_delimiter = ',')]
        host: Vec<String>,
        /// How long it is valid: nothing revokes it before
        #[arg(long, value_name = "N", default_value_t = CERTIFICATE_DAYS,
              value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Where the authority is kept [default: muster/certs in the configuration directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Where the files go [default: beside the authority]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// `--role` of `certs issue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CertificateRoleArg {
    /// A coordinator
    Node,
    /// A worker
    Worker,
    /// Who submits runs
    Client,
}

impl From<CertificateRoleArg> for CertificateRole {
    fn from(role: CertificateRoleArg) -> Self {
        match role {
            CertificateRoleArg::Node => Self::Node,
            CertificateRoleArg::Worker => Self::Worker,
            CertificateRoleArg::Client => Self::Client,
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster token --tokens tokens.json create --role submit --name ci --expires 90d
  muster token --tokens tokens.json revoke ci")]
pub(crate) struct TokenArgs {
    /// The file, the same on every coordinator
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: PathBuf,
    #[command(subcommand)]
    pub(crate) what: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once
    Create {
        /// What its holder may do
        #[arg(long, value_name = "ROLE")]
        role: RoleArg,
        /// What to call it [default: a part of its hash]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Whose it is: runs of one owner share the workers with those of others (`muster tenants`) [default: its name]
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
        /// When it ends, such as 90d [default: when it is revoked]
        #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// List the tokens
    List,
    /// Make a token worthless, with the next call
    Revoke {
        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `--role` of `token create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything
    Admin,
    /// Submit runs, cancel them, look at everything
    Submit,
    /// Look at everything
    Read,
    /// Be a worker
    Worker,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Admin => Self::Admin,
            RoleArg::Submit => Self::Submit,
            RoleArg::Read => Self::Read,
            RoleArg::Worker => Self::Worker,
        }
    }
}
