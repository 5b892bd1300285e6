//! Beside a LAVA it is LAVA that decides who may see what, without a word of ours; and the log says why.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::Lab;

fn log_of(lab: Lab) -> String {
    lab.start_process().log()
}

#[test]
fn the_authority_and_its_reason_are_said_at_the_start() {
    let alone = log_of(Lab::new().http());
    assert!(
        alone.contains("authority=open") && alone.contains("no LAVA has its settings in"),
        "{alone}"
    );

    let lab = Lab::new().http();
    let settings = lab.folder().join("lava-server");
    std::fs::create_dir(&settings).unwrap();
    std::fs::write(settings.join("settings.conf"), r#"{"MOUNT_POINT": "/lab"}"#).unwrap();
    let asked = log_of(lab.argument("--lava-settings").argument(settings.to_str().unwrap()));
    assert!(
        asked.contains("authority=lava, asked at http://127.0.0.1/lab/"),
        "{asked}"
    );
    assert!(asked.contains("LAVA's settings are in /"), "{asked}");
}
