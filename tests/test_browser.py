"""JupyterLab in a real browser: run all, press stop, run again, and look at the page."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("Makefile", "requirements.txt", "requirements-dev.txt", "requirements-lab.txt", "dcgan")
NEEDED += ("dcgan_utils.py", "training_checkpoints", "training_history")
MENU = "//*[contains(@class, 'lm-MenuBar-itemLabel') and text()='Run']"
RUN_ALL = "//*[@data-command='runmenu:run-all']"
STOP = "//*[@data-command='notebook:interrupt-kernel']"
STATUS = ".jp-Notebook-ExecutionIndicator"
PATIENCE = 900  # seconds


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("there is no Chromium with its driver; Debian has it as chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="make lab installs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (
        "headless=new",
        "no-sandbox",
        f"user-data-dir={tmp_path}",
        "window-size=1200,900",
    ):
        options.add_argument(f"--{option}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page that `make lab` opens for a copy of the notebook, a fast run of ten epochs."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(
        ROOT / "generated_samples", folder / "generated_samples"
    )  # links are not served
    notebook = (ROOT / "cifar10_dcgan.ipynb").read_text(encoding="utf-8")
    notebook = notebook.replace('"EPOCHS = 50\\n"', '"EPOCHS = 10\\n"')
    (folder / "cifar10_dcgan.ipynb").write_text(notebook, encoding="utf-8")
    # Else JupyterLab has only those cells in the page that are in sight.
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(settings.parents[1]))
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path))
    monkeypatch.setenv("DCGAN_FAST", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("BROWSER", "echo %s")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            ["make", "-f", "Makefile", "lab"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    page = next((line.strip() for line in server.stdout if line.startswith("file:")), None)
    assert page, (tmp_path / "log").read_text()[-2000:]
    yield page
    os.killpg(server.pid, signal.SIGTERM)
    server.communicate()


@pytest.mark.slow
def test_run_all_stop_and_run_all_again(browser: Any, address: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    def ask(script: str) -> Any:
        return browser.execute_script(f"return {script}")

    def texts(selector: str) -> list[str]:
        return ask(f"[...document.querySelectorAll('{selector}')].map(e => e.innerText)")

    def wait_for(condition: Callable[[], Any]) -> None:
        WebDriverWait(browser, PATIENCE, 0.2).until(lambda _: condition())

    def click(path: str) -> None:
        WebDriverWait(browser, PATIENCE).until(lambda _: browser.find_elements("xpath", path))
        browser.find_elements("xpath", path)[0].click()

    def run_all() -> None:
        click(MENU)
        click(RUN_ALL)

    def pictures() -> list[list]:
        script = "map(e => [e.src.slice(0, 60), e.complete && e.naturalWidth > 0])"
        return ask(f"[...document.querySelectorAll('.jp-Notebook img')].{script}")

    def complaints() -> list[str]:
        kinds = ("error", "stderr")
        return [t for k in kinds for t in texts(f'[data-mime-type="application/vnd.jupyter.{k}"]')]

    def prompts() -> list[str]:
        return texts(".jp-CodeCell .jp-InputPrompt")

    browser.get(address)
    wait_for(lambda: texts(".jp-Toolbar-kernelName") == ["Python 3 (ipykernel)"])
    wait_for(lambda: ask(f"document.querySelector('{STATUS}').dataset.status") == "idle")
    assert [source for source, shown in pictures() if not shown] == []  # the shipped ones
    run_all()
    wait_for(lambda: any("epoch  1/10  loss" in text for text in texts(".jp-OutputArea")))
    click(STOP)
    wait_for(complaints)
    (sentence,) = complaints()
    assert re.fullmatch(
        r"Stopped; \d epochs of baseline are kept. Run this again to go on.", sentence
    )

    run_all()
    wait_for(lambda: "[*]:" in prompts())
    wait_for(lambda: "[*]:" not in prompts())
    assert complaints() == []
    assert all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in prompts())
    assert any("baseline: restored epoch" in text for text in texts(".jp-OutputArea"))
    assert len(pictures()) >= 12
    assert [source for source, shown in pictures() if not shown] == []
