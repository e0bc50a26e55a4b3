"""Does `wdyn verify` say what is damaged, and exit with 1 for that alone?"""

import json


def test_verify__of_a_whole_run(wdyn, saved):
    result = wdyn("verify", saved)
    assert result.exit_code == 0
    assert "files read back" in result.stdout
    assert "each as it was written" in result.stdout


def test_verify__names_parameter_step_and_file(wdyn, saved):
    file = next(saved.glob("weights/tok-weight*/value/c.1.*"))
    file.write_bytes(b"")
    result = wdyn("verify", saved)
    assert result.exit_code == 1
    assert "of tok.weight at step 10: it has 0 bytes, and needs a checksum of 4. " in result.stdout
    assert f"The file is {file.relative_to(saved)}" in result.stdout


def test_verify__writes_json(wdyn, saved):
    (saved / "states/step/c.0").unlink()
    result = wdyn("verify", saved, "--format", "json")
    assert result.exit_code == 1
    (damage,) = json.loads(result.stdout)["damages"]
    assert damage == {
        "file": "states/step/c.0", "array": "states/step", "parameters": [], "steps": [], "reason": "it is missing",
    }  # fmt: skip


def test_verify__of_no_run_could_not_run(wdyn, tmp_path):
    result = wdyn("verify", tmp_path / "gone.zarr")
    assert result.exit_code == 2
    assert "it does not exist" in result.stderr


def test_verify__shows_no_character_of_a_name_that_acts(wdyn, saved):
    root = json.loads((saved / "zarr.json").read_text())
    about = root["consolidated_metadata"]["metadata"]["weights/tok-weight-0000"]["attributes"]["wdyn"]
    about["names"] = ["\x1b[2J\u202e[bold]evil"]
    (saved / "zarr.json").write_text(json.dumps(root))
    result = wdyn("verify", saved)
    assert result.exit_code == 1
    assert r"\x1b[2J\u202e[bold]evil" in result.stdout
    assert "\x1b" not in result.stdout


def test_verify__writes_a_page(wdyn, saved, tmp_path):
    (saved / "states/step/c.0").unlink()
    result = wdyn("verify", saved, "-o", tmp_path / "found.html")
    assert result.exit_code == 1
    assert "damaged or missing" in result.stdout
    assert "states/step/c.0" in (tmp_path / "found.html").read_text()
