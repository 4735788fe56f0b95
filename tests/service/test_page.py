"""The page, in a real browser without a screen: Debian's chromium and chromium-driver."""

import shutil

import pytest
from running_service import running

from recbole_hstu.service.item_titles import ItemTitles
from recbole_hstu.service.served_model import ServedModel

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("chromium or chromedriver is missing", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("disable-background-networking", "disable-component-update", "window-size=1200,900"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def url(models):
    """HSTU and SASRecSS side by side; item i3 has a title that would like to be a script."""
    titled = [f"{word} thing {i}" for i, word in enumerate(["red", "green", "blue"] * 10)]
    titles = {f"i{i}": title for i, title in enumerate(titled)} | {"i3": HOSTILE}
    served = [
        ServedModel(one.name, one.rec, ItemTitles(one.rec.saved.item_tokens, titles), 1 << 20)
        for one in models
    ]
    with running(served) as client:
        yield client.url


class Page:
    """What a person sees and does."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)
        self.until(lambda: self.all("#found li"))

    def until(self, happened):
        return WebDriverWait(self.browser, 60, 0.05).until(lambda _: happened())

    def all(self, css):
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css):
        script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
        return self.browser.execute_script(script, css)

    def search(self, words):
        self.all("#query")[0].clear()
        self.all("#query")[0].send_keys(words)
        self.until(lambda: {words} == set(self.texts("#found .title")))

    def add(self, words):
        before = self.texts("#lists .score")
        self.search(words)
        self.all("#found button")[0].click()
        self.until(lambda: self.texts("#lists .score") not in ([], before) and self.explained())

    def explained(self):
        return len(self.all("#history .part")) == 2 * len(self.all("#history > li"))

    def choose_time(self, field, value):
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
        self.browser.execute_script(script, field, value)


@pytest.fixture
def page(browser, url):
    return Page(browser, url)


def test_a_history_is_built_by_clicking_and_the_lists_follow(page):
    page.add("green thing 4")
    assert page.texts("#history > li > .title") == ["green thing 4"]
    assert page.texts("#lists h3") == ["HSTU", "SASRecSS"]
    assert page.texts("#lists section:first-child .rank") == [str(i) for i in range(1, 11)]
    assert all("thing" in title or "<script>" in title for title in page.texts("#lists .title"))
    first = page.texts("#lists .title")
    page.add("green thing 7")
    assert page.texts("#lists .title") != first
    assert "leave one out" in page.all("#explained")[0].text
    assert "In every list: " in page.all("#status")[0].text
    page.all("#history button")[0].click()
    page.until(lambda: page.texts("#history > li > .title") == ["green thing 7"])


def test_the_time_of_the_request_changes_what_hstu_gives(page):
    page.add("green thing 4")
    lists = page.texts("#lists section:nth-child(1) .score")
    others = page.texts("#lists section:nth-child(2) .score")
    page.choose_time(page.all("#at")[0], "2035-01-01T00:00:00")
    page.until(lambda: page.texts("#lists section:nth-child(1) .score") != lists)
    assert page.texts("#lists section:nth-child(2) .score") == others  # it sees no times
    page.choose_time(page.all("#at")[0], "2001-01-01T00:00:00")
    page.until(lambda: "lies before an event" in page.all("#status")[0].text)


def test_why_and_what_is_similar(page):
    page.add("green thing 4")
    title = page.texts("#lists .title")[1]
    page.all("#lists button")[3].click()
    page.until(lambda: f"the score of {title}" in page.all("#explained")[0].text)
    page.all("#lists button")[4].click()
    page.until(lambda: page.texts("#similar-title") == [f"Similar to {title}"])
    assert len(page.texts("#similar-lists .score")) == 20


def test_the_keyboard_is_enough(page):
    page.search("green thing 4")
    focus = page.browser.switch_to.active_element
    focus.send_keys(Keys.TAB)
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.until(lambda: page.all("#lists .score"))
    names = []
    for _ in range(60):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        focus = page.browser.switch_to.active_element
        names.append(focus.get_attribute("aria-label") or focus.get_attribute("id"))
    assert {"Time of green thing 4", "Remove green thing 4", "at", "clear"} <= set(names)
    assert sum(name.startswith("What each event contributes") for name in names if name) > 5


def test_a_title_is_text(page):
    page.search(HOSTILE)
    page.all("#found button")[0].click()
    page.until(lambda: page.texts("#history > li > .title") == [HOSTILE])
    assert page.browser.title != "owned"
    assert not page.all("#found script, #history script, #found img, #history img")


def test_a_phone_shows_all_of_it_and_nothing_comes_from_elsewhere(page, url):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.add("green thing 4")
    width = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert width == 390
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = page.browser.execute_script(script)
    assert loaded
    assert all(address.startswith(url) for address in loaded)
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
