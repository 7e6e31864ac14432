//! Who a process is: its role, its certificate, and the authority that signs certificates.
//!
//! The authority's key never leaves the control plane's folder. A node makes its own key and sends a request
//! ([`CertificateRequest`]); a worker gets certificate and key from its agent, over the pipe that starts it.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use neap_scheduler::model::{JobId, NodeId, WorkerId};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;

/// How long an authority is valid.
const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a process's certificate is valid. Nothing renews one yet, so it has to outlast a rented node.
const CERTIFICATE_VALID: Duration = Duration::from_secs(90 * 24 * 3600);

/// Certificates are valid from a little before they are made, for clocks that go after.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The authority's files in its folder.
const AUTHORITY_CERTIFICATE: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";

/// What a process is to the others. Carried as the one DNS name of its certificate: `control.neap`, `n3.node.neap`,
/// `w5.j2.worker.neap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The control plane.
    Control,
    /// The agent of a node.
    Node(NodeId),
    /// A worker process of a job.
    Worker {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.pad("control.neap"),
            Self::Node(node) => f.pad(&format!("{node}.node.neap")),
            Self::Worker { job, worker } => f.pad(&format!("{worker}.{job}.worker.neap")),
        }
    }
}

/// A name that no role has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no role")]
pub struct RoleParseError(String);

impl FromStr for Role {
    type Err = RoleParseError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || RoleParseError(name.to_owned());
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["control", "neap"] => Ok(Self::Control),
            [node, "node", "neap"] => Ok(Self::Node(node.parse().map_err(|_| unknown())?)),
            [worker, job, "worker", "neap"] => {
                let worker = worker.parse().map_err(|_| unknown())?;
                Ok(Self::Worker { job: job.parse().map_err(|_| unknown())?, worker })
            }
            _ => Err(unknown()),
        }
    }
}

/// What goes wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the authority could not be read or written.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read the private key.
    #[error("{} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key or certificate could not be made or read.
    #[error("failed to {action}")]
    Certificate {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate names no role, or more than one.
    #[error("a certificate without exactly one role: {0}")]
    NoRole(String),
    /// The TLS library refuses the key or a certificate.
    #[error("the TLS library refuses this identity")]
    Tls(#[source] rustls::Error),
    /// Bytes that are no identity.
    #[error("malformed identity: {0}")]
    Malformed(String),
}

/// Certificate chain, private key and CA certificate of one process. Serialisable, because an agent hands a worker its
/// identity over the pipe that starts it; `Debug` shows no key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Identity {
    pub(crate) fn new(chain: Vec<Vec<u8>>, key: Vec<u8>, ca: Vec<u8>) -> Self {
        Self { chain, key, ca }
    }

    /// The role its own certificate names.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoRole`] where the certificate was not made by a [`CertificateAuthority`].
    pub fn role(&self) -> Result<Role, IdentityError> {
        let leaf = self.chain.first().ok_or_else(|| IdentityError::Malformed("no certificate".to_owned()))?;
        role_of(leaf)
    }

    /// The certificates it shows, its own first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().cloned().map(CertificateDer::from).collect()
    }

    /// The certificate of the authority it trusts.
    pub fn ca_certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.ca.clone())
    }

    /// Its private key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Malformed`] where there is none.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        match self.key.is_empty() {
            true => Err(IdentityError::Malformed("no private key".to_owned())),
            false => Ok(PrivatePkcs8KeyDer::from(self.key.clone()).into()),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("role", &self.role().ok()).finish_non_exhaustive()
    }
}

/// The one role that a certificate names.
pub(crate) fn role_of(certificate: &[u8]) -> Result<Role, IdentityError> {
    let no_role = |reason: &str| IdentityError::NoRole(reason.to_owned());
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| no_role("it cannot be parsed"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| no_role("it has its names twice"))?
        .ok_or_else(|| no_role("it has no name"))?;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().map_err(|error: RoleParseError| no_role(&error.to_string())),
        _ => Err(no_role("it has other than one DNS name")),
    }
}

/// Signs the certificates of one cluster.
pub struct CertificateAuthority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Loads `ca.pem` and `ca.key` from a folder, or makes them (mode 0600) where neither is there.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], in particular [`IdentityError::KeyExposed`] where others may read the key.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        let (certificate, key) = (dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY));
        if !certificate.exists() && !key.exists() {
            Self::create(dir, &certificate, &key)?;
        }
        Self::load(&certificate, &key)
    }

    /// A fresh key and a certificate for it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`].
    pub fn issue(&self, role: Role) -> Result<Identity, IdentityError> {
        self.issue_named(&role.to_string())
    }

    /// A certificate for a name that is no role, for a server that is none of the actor network.
    pub(crate) fn issue_named(&self, name: &str) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate().map_err(certificate_error("make a key"))?;
        let chain = self.sign_key(&key, name)?;
        Ok(Identity::new(chain, key.serialize_der(), self.certificate.clone()))
    }

    /// A certificate chain (DER) for a key that only the requester has. Nothing but the public key is taken from the
    /// request; `role` is the caller's decision.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`] where the request is malformed or not signed with its own key.
    pub fn sign(&self, request: &CertificateRequest, role: Role) -> Result<Vec<Vec<u8>>, IdentityError> {
        let der = CertificateSigningRequestDer::from(request.der.as_slice());
        let request =
            CertificateSigningRequestParams::from_der(&der).map_err(certificate_error("read a certificate request"))?;
        self.sign_key(&request.public_key, &role.to_string())
    }

    /// blake3 of the CA certificate; join tokens carry it so that a new node knows whom to trust.
    pub fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(&self.certificate).as_bytes()
    }

    /// The authority's own certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn sign_key(&self, key: &impl PublicKeyData, name: &str) -> Result<Vec<Vec<u8>>, IdentityError> {
        let make = certificate_error("make a certificate");
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(&make)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, CERTIFICATE_VALID);
        let certificate = params.signed_by(key, &self.issuer).map_err(make)?;
        Ok(vec![certificate.der().to_vec()])
    }

    fn create(dir: &Path, certificate_path: &Path, key_path: &Path) -> Result<(), IdentityError> {
        fs::create_dir_all(dir).map_err(file_error("make folder", dir))?;
        let (certificate, key) = Self::make()?;
        // The key last: a folder with both is whole.
        write_private(certificate_path, certificate.pem().as_bytes())?;
        write_private(key_path, key.serialize_pem().as_bytes())?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error("sync folder", dir))
    }

    /// An authority that ends with the process.
    pub(crate) fn in_memory() -> Result<Self, IdentityError> {
        let (certificate, key) = Self::make()?;
        let issuer =
            Issuer::from_ca_cert_der(certificate.der(), key).map_err(certificate_error("read the authority"))?;
        Ok(Self { certificate: certificate.der().to_vec(), issuer })
    }

    fn make() -> Result<(Certificate, KeyPair), IdentityError> {
        let make = certificate_error("make a certificate authority");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "neap cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_validity(&mut params, AUTHORITY_VALID);
        let key = KeyPair::generate().map_err(&make)?;
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok((certificate, key))
    }

    fn load(certificate_path: &Path, key_path: &Path) -> Result<Self, IdentityError> {
        let mode = fs::metadata(key_path).map_err(file_error("open", key_path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::KeyExposed { path: key_path.to_owned(), mode });
        }
        let key = fs::read_to_string(key_path).map_err(file_error("read", key_path))?;
        let key = KeyPair::from_pem(&key).map_err(certificate_error("read the authority's key"))?;
        let pem = fs::read(certificate_path).map_err(file_error("read", certificate_path))?;
        let certificate = CertificateDer::from_pem_slice(&pem)
            .map_err(|error| IdentityError::Malformed(format!("{}: {error}", certificate_path.display())))?;
        let belongs = x509_parser::parse_x509_certificate(&certificate)
            .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw());
        if !belongs {
            let pair = (certificate_path.display(), key_path.display());
            return Err(IdentityError::Malformed(format!("{} does not belong to {}", pair.0, pair.1)));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(certificate_error("read the authority"))?;
        Ok(Self { certificate: certificate.to_vec(), issuer })
    }
}

/// A request for a certificate, with proof that the requester has the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateRequest {
    der: Vec<u8>,
}

impl CertificateRequest {
    /// A fresh key (PKCS#8 DER) and the request for it.
    pub(crate) fn generate() -> Result<(Vec<u8>, Self), IdentityError> {
        let make = certificate_error("make a certificate request");
        let key = KeyPair::generate().map_err(&make)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(make)?;
        Ok((key.serialize_der(), Self { der: request.der().to_vec() }))
    }
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + valid).into();
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(file_error("write", path))
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { action, path, source }
}

fn certificate_error(action: &'static str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |source| IdentityError::Certificate { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> [Role; 3] {
        [Role::Control, Role::Node(NodeId::new(3)), Role::Worker { job: JobId::new(2), worker: WorkerId::new(5) }]
    }

    #[test]
    fn roles_round_trip_through_their_names() {
        let names = ["control.neap", "n3.node.neap", "w5.j2.worker.neap"];
        for (role, name) in roles().into_iter().zip(names) {
            assert_eq!(role.to_string(), name);
            assert_eq!(name.parse::<Role>().unwrap(), role);
        }
    }

    #[test]
    fn names_that_are_no_role_are_refused() {
        for name in ["", "neap", "node.neap", "n3.node", "x3.node.neap", "w5.worker.neap", "control.neap.", "*.neap"] {
            assert!(name.parse::<Role>().is_err(), "{name}");
        }
    }

    #[test]
    fn an_authority_is_made_once_and_then_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let made = CertificateAuthority::load_or_create(dir.path()).unwrap();
        let loaded = CertificateAuthority::load_or_create(dir.path()).unwrap();
        assert_eq!(made.fingerprint(), loaded.fingerprint());
        for file in ["ca.pem", "ca.key"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::load_or_create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join("ca.key"), Permissions::from_mode(0o640)).unwrap();
        let error = CertificateAuthority::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::KeyExposed { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_or_half_missing_authority_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::load_or_create(dir.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        CertificateAuthority::load_or_create(other.path()).unwrap();

        let key = fs::read(dir.path().join("ca.key")).unwrap();
        fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
        let error = CertificateAuthority::load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains("does not belong"), "{error}");

        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(CertificateAuthority::load_or_create(dir.path()), Err(IdentityError::File { .. })));

        fs::write(dir.path().join("ca.key"), &key).unwrap();
        fs::set_permissions(dir.path().join("ca.key"), Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.path().join("ca.pem"), b"nonsense").unwrap();
        assert!(matches!(CertificateAuthority::load_or_create(dir.path()), Err(IdentityError::Malformed(_))));
    }

    #[test]
    fn certificates_name_their_role() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::load_or_create(dir.path()).unwrap();
        for role in roles() {
            assert_eq!(ca.issue(role).unwrap().role().unwrap(), role);
            let (_, request) = CertificateRequest::generate().unwrap();
            assert_eq!(role_of(&ca.sign(&request, role).unwrap()[0]).unwrap(), role);
        }
        assert!(matches!(role_of(&ca.issue_named("join.neap").unwrap().chain()[0]), Err(IdentityError::NoRole(_))));
        assert!(matches!(role_of(b"nonsense"), Err(IdentityError::NoRole(_))));
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::load_or_create(dir.path()).unwrap();
        let (_, mut request) = CertificateRequest::generate().unwrap();
        let last = request.der.len() - 1;
        request.der[last] ^= 1;
        assert!(ca.sign(&request, Role::Control).is_err());
        assert!(ca.sign(&CertificateRequest { der: vec![1, 2, 3] }, Role::Control).is_err());
    }

    #[test]
    fn an_identity_shows_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let identity = CertificateAuthority::load_or_create(dir.path()).unwrap().issue(Role::Control).unwrap();
        assert_eq!(format!("{identity:?}"), "Identity { role: Some(Control), .. }");
    }
}
