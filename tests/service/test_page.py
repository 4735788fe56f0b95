"""The page in real headless Chromium (Debian: apt-get install chromium chromium-driver)."""

import shutil

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

from running_service import running  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from recbole_hstu.service.item_titles import ItemTitles  # noqa: E402

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1200,900"),
)
EVIL = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


class Page:
    """What a person does and sees."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.wait(lambda: self.all(selector))[0]

    def wait(self, condition):
        """Until it holds; elements may be replaced meanwhile."""
        ignored = (webdriver.remote.webdriver.WebDriverException,)
        return WebDriverWait(self.browser, 20, 0.05, ignored).until(lambda _: condition())

    def texts(self, selector):
        return [found.text for found in self.all(selector)]

    def says(self, words):
        self.wait(lambda: words in self.one("#status").text)

    def search(self, words):
        field = self.one("#query")
        field.clear()
        field.send_keys(words)
        self.wait(
            lambda: (
                all(words in text for text in self.texts("#found .title"))
                and (self.texts("#found .title"))
            )
        )

    def add(self, words):
        self.search(words)
        title = self.one("#found .title").text
        self.one("#found button").click()
        self.says(f"{title} added.")
        return title

    def set_time(self, time):
        change = "at.value = arguments[0]; at.dispatchEvent(new Event('change'))"
        self.browser.execute_script(change, time)


def errors_of(browser):
    return [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_a_history_is_built_by_clicking_and_two_models_answer(browser, service, models):
    page = Page(browser, service.url)
    added = [page.add(words) for words in ("quick green", "large blue")]
    assert page.texts("#history .title") == added
    columns = page.wait(lambda: len(page.all("#lists ol")) == 2 and page.all("#lists ol"))
    titles = [row.text for row in columns[0].find_elements(By.CSS_SELECTOR, ".title")]
    table = models[0].rec.recommend(  # two events an hour apart, asked an hour later
        [[(page_item(models, added[0]), 0), (page_item(models, added[1]), 3_600_000)]],
        at=7_200_000,
    )
    assert titles == [models[0].titles[models[0].rec.ids([item])[0]] for item in table["item"]]
    page.wait(lambda: len(page.all("#history .part")) == 4)  # an event and a model each
    assert "leave one out" in page.one("#explained").text
    assert errors_of(browser) == []


def page_item(models, title):
    (id,) = models[0].titles.search(title, 2)
    return models[0].rec.items[id]


def test_the_time_of_the_request_changes_the_scores(browser, service):
    page = Page(browser, service.url)
    page.add("quick green")
    page.add("large blue")
    before = page.texts("#lists section:first-child .score")
    page.set_time("2031-01-01T00:00:00")
    page.says("Time of the request changed.")
    assert page.texts("#lists section:first-child .score") != before
    page.set_time("2001-01-01T00:00:00")
    page.says("The request lies before an event")


def test_the_keyboard_is_enough(browser, service):
    page = Page(browser, service.url)
    page.search("quick green")
    page.one("#query").send_keys(Keys.TAB)
    active = browser.switch_to.active_element
    if active.tag_name != "button":  # a list that scrolls takes the focus, too
        active.send_keys(Keys.TAB)
    active = browser.switch_to.active_element
    assert active.get_attribute("aria-label").startswith("Add quick green")
    active.send_keys(Keys.ENTER)
    page.says("added.")
    page.wait(lambda: page.all("#lists button[aria-pressed=true]"))
    page.one("#lists button[aria-label^='Items similar to']").send_keys(Keys.ENTER)
    page.wait(lambda: browser.switch_to.active_element.text.startswith("Similar to "))
    page.one("#history button").send_keys(Keys.ENTER)
    page.says("removed.")
    assert browser.switch_to.active_element.get_attribute("id") == "query"
    assert page.texts("#lists .title") == []


def test_a_phone_shows_all_of_it_and_every_control_has_a_name(browser, service):
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page = Page(browser, service.url)
        page.add("quick green")
        page.wait(lambda: page.all("#history .part"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        for control in page.all("input, button"):
            if control.is_displayed():
                assert control.accessible_name
                assert control.rect["height"] >= 36
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_titles_are_text(browser, models):
    from recbole_hstu.service.served_model import ServedModel

    rec = models[0].rec
    titles = ItemTitles(rec.saved.item_tokens, dict.fromkeys(rec.saved.item_tokens, EVIL))
    with running([ServedModel("evil", rec, titles, 1 << 20)]) as service:
        page = Page(browser, service.url)
        page.add("bold")
        page.one("#lists .title")
        assert page.texts("#history .title") == [EVIL]
        assert page.all("main img, main b") == []
        assert browser.title != "hacked"


def test_a_token_is_asked_for(browser, models):
    with running(models, token="s3cret") as service:
        page = Page(browser, service.url)
        page.wait(lambda: page.one("#token").is_displayed())
        page.one("#token").send_keys("s3cret", Keys.ENTER)
        page.search("quick green")
        assert not page.one("#token").is_displayed()
