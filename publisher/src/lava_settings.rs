//! LAVA's own settings on this machine: that there is a LAVA, and at which address it answers.
//!
//! They are read as LAVA reads them (`lava_server/settings/prod.py`): `settings.conf`, `settings.yaml`, `settings.d/*.yaml`
//! in their order; of two the later one counts. What LAVA takes from its environment is not seen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// LAVA's settings, as far as they matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LavaSettings {
    /// The path under which LAVA stands on its server, without a slash in front.
    mount_point: String,
    /// The names by which it may be asked. None: LAVA's own, this machine's.
    allowed_hosts: Option<Vec<String>>,
    /// What a person should know. Holds no value of a setting.
    pub(crate) warnings: Vec<String>,
}

/// One file. There is much more in it, secrets too.
#[derive(Default, Deserialize)]
struct Written {
    #[serde(rename = "MOUNT_POINT")]
    mount_point: Option<String>,
    #[serde(rename = "ALLOWED_HOSTS")]
    allowed_hosts: Option<Vec<String>>,
}

impl LavaSettings {
    /// Those of a folder such as `/etc/lava-server`. None: there is no such folder. A file that cannot be read is passed
    /// over with a warning: that a LAVA is here is known all the same.
    pub(crate) fn read(folder: &Path) -> Option<LavaSettings> {
        if let Ok(false) = folder.try_exists() {
            return None;
        }
        let mut settings = LavaSettings::default();
        for file in settings.files(folder) {
            match read(&file) {
                Ok(written) => {
                    settings.mount_point = written.mount_point.unwrap_or(settings.mount_point);
                    settings.allowed_hosts = written.allowed_hosts.or(settings.allowed_hosts);
                }
                Err(cause) => settings.warnings.push(format!("{}: {cause}", file.display())),
            }
        }
        Some(settings)
    }

    fn files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut files = vec![folder.join("settings.conf"), folder.join("settings.yaml")];
        let more = folder.join("settings.d");
        match fs::read_dir(&more) {
            Ok(entries) => {
                let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
                let mut paths: Vec<PathBuf> = paths
                    .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
                    .collect();
                paths.sort();
                files.extend(paths);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.warnings.push(format!("{}: {error}", more.display())),
        }
        files
    }

    /// Where LAVA's own web server answers on this machine: port 80, which nobody but root may take, so that no reader's
    /// token comes into other hands.
    pub(crate) fn address(&mut self) -> String {
        let is_allowed = |name: &str| {
            let hosts = self.allowed_hosts.as_ref();
            hosts.is_none_or(|hosts| hosts.iter().any(|host| host == "*" || host.eq_ignore_ascii_case(name)))
        };
        let host = ["127.0.0.1", "localhost"].into_iter().find(|name| is_allowed(name));
        if host.is_none() {
            let warning = "LAVA's ALLOWED_HOSTS has neither 127.0.0.1 nor localhost, so it will not answer: add one, or \
                           name LAVA's address with --lava";
            self.warnings.push(warning.to_owned());
        }
        let mount_point = self.mount_point.trim_matches('/');
        let end = if mount_point.is_empty() { "" } else { "/" };
        format!("http://{}/{mount_point}{end}", host.unwrap_or("127.0.0.1"))
    }
}

/// Why is told without a word of the file, which holds secrets.
fn read(file: &Path) -> Result<Written, String> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::default()),
        text => text.map_err(|error| error.to_string())?,
    };
    let written: Result<Option<Written>, _> = serde_saphyr::from_str(&text);
    let written = written.map_err(|error| match error.location() {
        Some(location) => format!("line {}: not what LAVA reads there", location.line()),
        None => "not what LAVA reads there".to_owned(),
    })?;
    Ok(written.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The settings in a folder with these files.
    fn read(files: &[(&str, &str)]) -> LavaSettings {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("settings.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        LavaSettings::read(folder.path()).unwrap()
    }

    fn address(files: &[(&str, &str)]) -> String {
        let mut settings = read(files);
        let address = settings.address();
        assert_eq!(settings.warnings, [""; 0]);
        address
    }

    #[test]
    fn without_the_folder_there_is_no_lava_and_an_empty_one_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LavaSettings::read(&folder.path().join("lava-server")), None);
        assert_eq!(
            LavaSettings::read(folder.path()).unwrap().address(),
            "http://127.0.0.1/"
        );
    }

    #[test]
    fn the_address_is_lavas_own_on_this_machine() {
        assert_eq!(
            address(&[(
                "settings.conf",
                "{\n\t\"ALLOWED_HOSTS\": [\"*\"],\n\t\"EVENT_NOTIFICATION\": true\n}"
            )]),
            "http://127.0.0.1/"
        );
        assert_eq!(
            address(&[("settings.conf", "{\"MOUNT_POINT\": \"/lava\"}")]),
            "http://127.0.0.1/lava/"
        );
        let files = [
            (
                "settings.conf",
                "{\"MOUNT_POINT\": \"/one\", \"ALLOWED_HOSTS\": [\"x\"]}",
            ),
            ("settings.d/20-b.yaml", "MOUNT_POINT: three/"),
            (
                "settings.d/10-a.yaml",
                "MOUNT_POINT: two\nALLOWED_HOSTS: [LocalHost, lava.example.org]",
            ),
            ("settings.d/30-c.yaml.dpkg-old", "MOUNT_POINT: four"),
            ("settings.yaml", ""),
        ];
        assert_eq!(address(&files), "http://localhost/three/");
    }

    #[test]
    fn what_is_wrong_is_said_without_a_secret() {
        let mut settings = read(&[
            ("settings.conf", "SECRET_KEY: s3cret\nMOUNT_POINT: [s3cret]\n"),
            ("settings.yaml", "ALLOWED_HOSTS: [lava.example.org]\n"),
            ("settings.d/00-secret_key.yaml", "SECRET_KEY: \"s3cret\n"),
        ]);
        assert_eq!(settings.address(), "http://127.0.0.1/");
        let warnings = settings.warnings.join("\n");
        assert_eq!(settings.warnings.len(), 3, "{warnings}");
        assert!(
            warnings.contains("settings.conf: line 2: ") && warnings.contains("ALLOWED_HOSTS"),
            "{warnings}"
        );
        assert!(!warnings.contains("s3cret"), "{warnings}");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.conf");
        fs::write(&file, "MOUNT_POINT: lava").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        let mut settings = LavaSettings::read(folder.path()).unwrap();
        // Root reads everything.
        let is_read = fs::read(&file).is_ok();
        assert_eq!(settings.warnings.is_empty(), is_read, "{:?}", settings.warnings);
        let expected = if is_read {
            "http://127.0.0.1/lava/"
        } else {
            "http://127.0.0.1/"
        };
        assert_eq!(settings.address(), expected);
    }
}
