"""What a person can do about an error: one line for each code the command line may meet."""

from __future__ import annotations

from typing import Final

_APT: Final = "sudo apt-get install -y"
_REMEDIES: Final = {
    "config_folder_missing": "install again: pip install radloop",
    "data_folder_foreign": "choose an empty or new folder: radloop up --data DIR",
    "data_folder_not_writable": "give yourself the folder: sudo chown -R $USER DIR",
    "data_folder_path": "choose a folder without quotes, percent, dollar, hash or semicolon",
    "decoder_missing": "pip install -c constraints.txt radloop",
    "no_dicom": "name a DICOM file, or a folder or zip that holds some",
    "not_found": "check the path",
    "install_path": "install radloop in a folder without quotes, percent, hash or semicolon",
    "job_ambiguous": "give more digits of the id",
    "job_state": "a state is one word, such as done or failed",
    "job_unknown": "see `radloop jobs`",
    "modality_aet": "an AE title has 1 to 16 printable characters and no backslash",
    "modality_host": "give an IP address, or a name that this machine can resolve",
    "modality_port": "a port is a number from 1 to 65535",
    "modality_quiet": "seconds above 0, up to 86400",
    "modality_unknown": "see `radloop modality list`",
    "nodes_missing": "pip install 'radloop[nodes]' -c constraints.txt",
    "pipeline_unknown": "radloop pipelines lists what there is",
    "input_missing": "no such file or folder; name one that holds DICOM",
    "region_and_everything": "give either --region or --everything-above-130",
    "series_not_in_input": "radloop routes explain PATH lists the series",
    "out_unwritable": "name another folder with --out",
    "no_rule": "see why: radloop routes explain PATH; or name it: rerun --rule, analyze --series",
    "no_free_port": "name free ones under [ports] in the file RADLOOP_CONFIG names",
    "orthanc_login": "the secrets are not those of this Orthanc: radloop down && radloop up",
    "orthanc_missing": f"{_APT} orthanc orthanc-python orthanc-dicomweb orthanc-gdcm",
    "orthanc_plugins_missing": f"{_APT} orthanc-python orthanc-dicomweb orthanc-gdcm",
    "orthanc_start": "read logs/orthanc.log in the data folder, then try `radloop doctor`",
    "orthanc_unreachable": "radloop up",
    "plugin_missing": "install again: pip install radloop",
    "plugin_site_install": "see pip's message above",
    "plugin_site_missing": "radloop setup-plugin",
    "redis_missing": "pip install 'radloop[services]' -c constraints.txt",
    "redis_server_missing": f"{_APT} redis-server",
    "redis_start": "read logs/redis.log in the data folder",
    "redis_unreachable": "radloop up",
    "rule_name": "see the names in routing.toml",
    "routing": "correct routing.toml as said above; `radloop routes explain PATH` tries it",
    "routing_queue": "a rule names a queue that is not in [queue] names of the settings",
    "routing_missing": "name the file under [routing] in the file RADLOOP_CONFIG names",
    "secret_missing": "radloop down && radloop up makes a new one",
    "secret_readable_by_others": "chmod 600 the file under secrets/ in the data folder",
    "secret_empty": "delete the file under secrets/ in the data folder, then radloop up",
    "send_rejected": "the receiver takes no association now; its log may say why",
    "send_unknown_receiver": "give the receiver's AE title: --called AET",
    "send_unknown_sender": "register the sender once: radloop modality add RADLOOP 127.0.0.1 11112",
    "send_aborted": "the receiver broke off three times; logs/orthanc.log may say why",
    "send_unreachable": "radloop up, or give --host and --port",
    "series_unknown": "give an Orthanc series id, as `radloop jobs` shows it",
    "settings": "correct the key in the file RADLOOP_CONFIG names, or default.toml",
    "settings_missing": "RADLOOP_CONFIG names no readable file",
    "settings_not_toml": "the file RADLOOP_CONFIG names is not valid TOML",
    "socket_folder_foreign": "choose a data folder with a shorter path",
    "stack_absent": "radloop up",
    "stack_busy": "another radloop command is at work on this data folder; wait for it",
    "stack_not_running": "radloop up",
    "state_file": "radloop down, delete state.json in the data folder, radloop up",
    "supervisor_missing": "pip install 'radloop[services]' -c constraints.txt",
    "supervisor_start": "read logs/supervisord.log in the data folder",
}


def remedy(code: str) -> str:
    """One line, "" where there is nothing to do but read the code."""
    return _REMEDIES.get(code, "")
