"""The page, in a real browser without a screen: Debian's chromium and chromium-driver."""

import shutil
import time
from copy import copy

import pytest
from running_service import running, small_models

from recbole_hstu.service.item_titles import ItemTitles

pytest.importorskip("selenium", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
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
def titled(models):
    """HSTU and SASRecSS; item i3 has a title that would like to be a script."""
    titles = {f"i{i}": f"{['red', 'green', 'blue'][i % 3]} thing {i}" for i in range(30)}
    titles["i3"] = HOSTILE
    copies = [copy(model) for model in models]
    for model in copies:
        model.titles = ItemTitles(model.rec.saved.item_tokens, titles)
    return copies


@pytest.fixture(scope="module")
def url(titled):
    with running(titled) as client:
        yield client.url


class Page:
    """What a person sees and does."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)

    def until(self, happened):
        """Elements may be replaced while they are read."""
        wait = WebDriverWait(self.browser, 60, 0.05, (StaleElementReferenceException, IndexError))
        return wait.until(lambda _: happened())

    def all(self, css):
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css):
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.browser.execute_script(script, css)

    def shown(self, css):
        self.until(lambda: [found for found in self.all(css) if found.is_displayed()])

    def named(self, name):
        """The first control of this name."""
        return self.until(lambda: self.all(f'[aria-label="{name}"]')[0])

    def search(self, words):
        self.shown("#query")
        self.all("#query")[0].clear()
        self.all("#query")[0].send_keys(words)
        self.until(lambda: words in "".join(self.texts("#found .title")[:1]))

    def add(self, words):
        self.search(words)
        self.all("#found button")[0].click()
        self.settle()

    def settle(self):
        """Until lists, contributions and similar items of this history are there."""
        parts = 2 * len(self.texts("#history li"))
        self.until(lambda: self.all("#answers[aria-busy=false]"))
        self.until(lambda: len(self.texts("#parts .part")) == parts)

    def scores(self, place):
        return self.texts(f"#lists section:nth-child({place}) .score")

    def says(self, words):
        self.until(lambda: words in self.all("#problem")[0].text)

    def press(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)

    def focus(self):
        active = self.browser.switch_to.active_element
        return active.get_attribute("aria-label") or active.get_attribute("id")


@pytest.fixture
def page(browser, url):
    return Page(browser, url)


def test_a_history_is_built_by_clicking_and_two_lists_follow(page, titled):
    page.add("green thing 4")
    assert page.texts("#parts .score") == ["the only event"] * 2
    page.add("green thing 7")
    assert page.texts("#history .title") == ["green thing 4", "green thing 7"]
    assert [heading.text for heading in page.all("#parts h3")] == ["HSTU", "SASRecSS"]
    expected = titled[0].rec.recommend(  # an hour apart, asked an hour later
        [[("i4", 0), ("i7", 3_600_000)]], k=10, at=7_200_000
    )
    titles = [titled[0].titles[id] for id in titled[0].rec.ids(expected["item"])]
    assert page.texts("#lists section:first-child .title") == titles
    shown = [float(score) for score in page.scores(1)]
    assert shown == pytest.approx(expected["score"].tolist(), abs=6e-4)
    page.named("Remove green thing 4").click()
    page.settle()
    assert page.texts("#history .title") == ["green thing 7"]


def test_the_time_of_the_request_changes_what_hstu_gives(page):
    page.add("green thing 4")
    timed, timeless = page.scores(1), page.scores(2)
    page.named("30 days later").click()
    page.until(lambda: page.scores(1) != timed)
    page.settle()
    assert page.scores(2) == timeless
    past = "at.value = '2001-01-01T00:00:00'; at.dispatchEvent(new Event('change'))"
    page.browser.execute_script(past)
    page.says("lies before an event")


def test_a_title_shows_contributions_and_similar_items(page, titled):
    page.add("green thing 4")
    page.add("blue thing 8")
    title = page.texts("#lists section:nth-child(2) .title")[1]
    page.named(f"Why {title}").click()
    page.until(lambda: page.texts("#why-title, #similar-title")[1] == f"Similar to {title}")
    page.settle()
    assert page.texts("#why-title") == [f"Why {title}"]
    assert "by leaving it out" in page.texts("#why .note")[0]
    rec = titled[1].rec
    item = rec.items[[titled[1].titles[id] for id in range(len(rec.items))].index(title)]
    whole, without = (rec.scores(events, [item])[0] for events in (["i4", "i8"], ["i8"]))
    shown = page.texts("#parts section:nth-child(2) .score")[0].replace("\N{MINUS SIGN}", "-")
    assert float(shown) == pytest.approx(whole - without, abs=6e-4)
    alike = [titled[1].titles[id] for id in rec.ids(rec.similar_items(item, 5)["item"])]
    assert page.texts("#similar-lists section:nth-child(2) .title") == alike


SLOW_FIRST = """
  const honest = window.fetch;
  let calls = 0;
  window.fetch = (path, ...rest) => String(path).includes("contributions") && calls++ < 2
    ? new Promise((later) => setTimeout(later, 600)).then(() => honest(path, ...rest))
    : honest(path, ...rest);
"""


def test_of_two_titles_the_last_chosen_is_explained_whichever_answer_comes_first(page):
    page.add("green thing 4")
    page.add("blue thing 8")
    first, second = page.texts("#lists section:first-child .title")[1:3]
    page.named(f"Why {second}").click()
    page.until(lambda: page.texts("#why-title") == [f"Why {second}"])
    page.settle()
    expected = page.texts("#parts .score")
    page.browser.execute_script(SLOW_FIRST)
    page.named(f"Why {first}").click()
    page.named(f"Why {second}").click()
    time.sleep(1)
    page.settle()
    assert page.texts("#why-title, #similar-title") == [f"Why {second}", f"Similar to {second}"]
    assert page.texts("#parts .score") == expected


def test_items_of_every_model_are_found(browser, models):
    """Two models of other catalogues."""
    copies = [copy(model) for model in models]
    for color, model in zip(("amber", "cobalt"), copies, strict=True):
        titles = {f"i{i}": f"{color} thing {i}" for i in range(30)}
        model.titles = ItemTitles(model.rec.saved.item_tokens, titles)
    with running(copies) as client:
        page = Page(browser, client.url)
        page.search("cobalt")
        page.search("amber")


def test_the_keyboard_is_enough(page):
    page.shown("#query")
    while page.focus() != "query":
        page.press(Keys.TAB)
    page.press("blue thing")
    page.until(lambda: len(page.texts("#found .title")) == 10)
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.ARROW_DOWN)
    second = page.focus()
    page.press(Keys.ARROW_UP)
    assert second != page.focus() == f"Add {page.texts('#found .title')[0]}"
    page.press(Keys.ENTER)
    page.settle()
    title = page.texts("#lists .title")[2]
    passed = set()
    while page.focus() != f"Why {title}":
        passed.add(page.focus())
        page.press(Keys.TAB)
    assert {"clear", "at", "One day later"} <= passed
    page.press(Keys.ENTER)
    page.until(lambda: page.texts("#why-title") == [f"Why {title}"])
    page.press(Keys.TAB, Keys.ENTER)  # adds it; the focus stays at the place
    page.until(lambda: title in page.texts("#history .title"))
    page.settle()
    assert page.focus().startswith("Add ")


def test_a_model_that_keeps_no_vector_an_item_is_asked_all_else(browser, toy):
    with running(small_models("ItemGraph")) as client:
        page = Page(browser, client.url)
        page.search("thing1")
        page.all("#found button")[0].click()
        page.until(lambda: "keeps no vector" in "".join(page.texts("#similar-lists .note")))
        assert page.texts("#parts .score") == ["the only event"]
        assert not page.all("#problem")[0].is_displayed()


def test_a_model_that_refuses_shares_no_list(browser, toy):
    """BPR knows users by name, and a history has none."""
    with running(small_models("ItemGraph", "BPR")) as client:
        page = Page(browser, client.url)
        page.search("thing1")
        page.all("#found button")[0].click()
        page.until(lambda: "knows its users by name" in "".join(page.texts("#lists .note")))
        page.until(lambda: "".join(page.texts("#status")))
        assert "share" not in "".join(page.texts("#status"))


def test_a_title_is_text(page):
    page.add("document.title")
    assert page.texts("#found .title") == page.texts("#history .title") == [HOSTILE]
    assert page.browser.title != "owned"
    assert not page.all("main script, main img")


def test_a_phone_shows_all_of_it_and_nothing_comes_from_elsewhere(page, url):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.add("document.title")
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 390
        for control in page.all("main input, main button"):
            assert not control.is_displayed() or control.accessible_name
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = page.browser.execute_script(script)
    assert f"{url}/recommend" in loaded
    assert all(address.startswith(f"{url}/") for address in loaded)


def test_what_fails_is_said_and_can_be_tried_again(page):
    page.add("green thing 4")
    before = page.scores(1)
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    page.named("30 days later").click()
    page.says("The service does not answer.")
    online = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", online)
    page.all("#again")[0].click()
    page.until(lambda: page.scores(1) != before)
    page.until(lambda: not page.all("#problem")[0].is_displayed())


def test_a_token_is_asked_for(browser, titled):
    with running(titled, token="right") as client:
        page = Page(browser, client.url)
        page.shown("#token")
        page.all("#token")[0].send_keys("wrong", Keys.ENTER)
        page.says("token")
        page.all("#token")[0].clear()
        page.all("#token")[0].send_keys("right", Keys.ENTER)
        page.add("green thing 4")
        assert not page.all("#token")[0].is_displayed()
