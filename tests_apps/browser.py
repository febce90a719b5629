# SPDX-License-Identifier: Apache-2.0
"""OHIF's page in a real browser."""

from __future__ import annotations

from tests.browser import Browser, needs_browser

__all__ = ["LABELMAP", "Browser", "needs_browser", "segment_in_ohif"]


def segment_in_ohif(browser: Browser, server: str, study: str, model: str) -> None:
    """Find a study in OHIF's list, open it with MONAI Label, and let a model segment it, with the mouse alone."""
    browser.open(f"{server}/ohif/")
    browser.wait("return document.body.innerText.includes('Study List')")
    browser.click("button", "Confirm and Hide")
    browser.wait("return document.body.innerText.includes(arguments[0])", study)
    browser.click("td", study)
    browser.click("button", "MONAI Label")
    browser.wait("return document.getElementById('monailabelServerURL')")
    ready = "return [...cornerstone.cache.getVolumes()].some(v => v.loadStatus && v.loadStatus.loaded)"
    browser.wait(f"try {{ {ready} }} catch (e) {{ return false }}")
    browser.click("button.actionButton")
    browser.wait("return document.body.innerText.includes(arguments[0])", model)
    browser.wait(
        "try { return services.segmentationService.getLabelmapVolume('1') && true } catch (e) { return false }"
    )
    browser.click("label", "Auto-Segmentation")
    browser.run(CHOOSE, model)
    browser.click("button[title='Run Segmentation']")
    browser.wait(f"return ({LABELMAP}).values.some(v => v)")


# a model in the tab that has the button, as a person does
CHOOSE = """
    let around = document.querySelector("button[title='Run Segmentation']");
    while (!around.querySelector('select')) around = around.parentElement;
    const box = around.querySelector('select');
    Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(box, arguments[0]);
    box.dispatchEvent(new Event('change', {bubbles: true}));
"""
# the labels that the page shows, and where it shows them (LPS, mm)
LABELMAP = """(() => {
    const volume = services.segmentationService.getLabelmapVolume('1');
    return {
        values: [...volume.voxelManager.getCompleteScalarDataArray()],
        shape: [...volume.dimensions], origin: [...volume.origin],
        spacing: [...volume.spacing], direction: [...volume.direction],
    };
})()"""
