//! `muster certs`: a certificate authority of one's own, and what it issues.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use muster_identity::issue::Issued;
use muster_identity::{Authority, CertificateRole, Holder, IssueError, Wanted};

use super::Context;
use crate::args::identity::{CertsArgs, CertsCommand};
use crate::exit_code::{CommandResult, Failure, OK};
use crate::out;
use crate::report::hints::quote;

pub(crate) fn certs(context: &Context, args: CertsArgs) -> CommandResult {
    match args.what {
        CertsCommand::Init { dir } => {
            let dir = dir_or_default(dir)?;
            let made = Authority::init(&dir).map_err(failure)?;
            let text = format!(
                "Keep the key to yourself: whoever has it can pass for anybody. Next, for each coordinator and worker:\n  \
                 muster certs issue node-1 --role node --host HOST,IP{dir}\n  muster certs issue worker-1 --role worker{dir}\n",
                dir = format_args!(" --dir {}", quote(&dir.to_string_lossy())),
            );
            tell(context, "authority", &made, &text)
        }
        CertsCommand::Issue { name, role, host, days, dir, out } => {
            let dir = dir_or_default(dir)?;
            let role = CertificateRole::from(role);
            let authority = Authority::open(&dir).map_err(|error| {
                Failure::usage(format!(
                    "{error}\nthere must be an authority first: muster certs init --dir {}",
                    dir.display()
                ))
            })?;
            let wanted = Wanted::for_days(Holder { role, name }, host, days);
            let out = out.unwrap_or_else(|| dir.clone());
            let made = authority.issue(&out, &wanted).map_err(failure)?;
            let text = usage(role, &dir, &made);
            tell(context, "certificate", &made, &text)
        }
    }
}

/// The options that use what was issued.
fn usage(role: CertificateRole, dir: &Path, made: &Issued) -> String {
    let file = |path: &Path| quote(&path.to_string_lossy());
    let command = match role {
        CertificateRole::Node => "muster coordinator",
        CertificateRole::Worker => "muster worker",
        CertificateRole::Client => "muster run",
    };
    let ca = file(&dir.join("ca.pem"));
    let (certificate, key) = (file(&made.certificate), file(&made.key));
    format!("{command} ... --tls-ca {ca} --tls-cert {certificate} --tls-key {key}\n")
}

fn tell(context: &Context, kind: &str, made: &Issued, text: &str) -> CommandResult {
    let until = humantime::format_rfc3339_seconds(SystemTime::from(made.until)).to_string();
    if context.json() {
        let body = serde_json::json!({ "certificate": made.certificate, "key": made.key, "valid_until": until });
        out::put_json(kind, body)?;
        return Ok(OK);
    }
    let (certificate, key) = (made.certificate.display(), made.key.display());
    out::put(&format!("{certificate}\n{key}\nvalid until {until}\n{text}"))?;
    Ok(OK)
}

fn failure(error: IssueError) -> Failure {
    Failure::usage(error.to_string())
}

fn dir_or_default(dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    dir.or_else(default_dir).ok_or_else(|| Failure::usage("neither HOME nor XDG_CONFIG_HOME is set: say --dir DIR"))
}

/// Where the authority is kept when nothing else is said.
pub(crate) fn default_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("muster").join("certs"))
}
