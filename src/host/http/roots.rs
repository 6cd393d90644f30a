//! Which servers are believed to be who they are: the certificates of the system, or of one file.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_certs_from_paths;

use crate::error::{Error, Kind, Result, clean};

/// Where systems keep them, all in one file: Debian, Arch and Alpine; Fedora and its kin, new and old; openSUSE; OpenBSD's way.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What plain HTTP does with: nobody is believed.
pub(super) fn none() -> Result<ClientConfig> {
    trusting(RootCertStore::empty())
}

/// What TLS towards servers is made with. The crates' own look at environment variables is passed by.
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let file = ca_file.or_else(|| FILES.iter().map(Path::new).find(|file| file.is_file()));
    let loaded = load_certs_from_paths(file, file.is_none().then_some(Path::new("/etc/ssl/certs")));
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(loaded.certs);
    if good == 0 {
        let place = file.map_or_else(|| "the system's usual places".into(), |file| format!("{:?}", clean(&file.to_string_lossy(), 200)));
        let why = loaded.errors.first().map(|e| format!(": {e}")).unwrap_or_default();
        return Err(Error::new(
            Kind::Io,
            format!(
                "No certificates of authorities were found in {place}{why}. Install the system's (ca-certificates), or set http.ca_file."
            ),
        ));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Internal, format!("TLS cannot be set up: {e}.")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
