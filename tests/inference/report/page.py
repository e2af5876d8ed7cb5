"""Pages of the report as trees."""

from html.parser import HTMLParser

VOID = {"meta", "rect", "polyline", "path", "circle"}


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.content = tag, attributes, parent, []

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def all(self, tag=None, **attributes):
        """Those below with the tag and attributes; `class_name` is one of the element's classes."""
        class_name = attributes.pop("class_name", None)
        for part in self.content:
            if isinstance(part, str):
                continue
            given_attributes = part.attributes
            if (
                (tag is None or part.tag == tag)
                and (class_name is None or class_name in given_attributes.get("class", "").split())
                and all(given_attributes.get(key) == value for key, value in attributes.items())
            ):
                yield part
            yield from part.all(tag, class_name=class_name, **attributes)

    def one(self, tag=None, **attributes):
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]


class Page(HTMLParser):
    """The page as a tree; every element that is opened must be closed, in order."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("root", {}, None)
        self.feed(source)
        self.close()
        assert self.here is self.root

    def handle_starttag(self, tag, attributes):
        element = Element(tag, dict(attributes), self.here)
        self.here.content.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.here.tag == tag
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.content.append(data)


def places(page):
    """Return the rows of the examples, in the order of the page."""
    return [card.one("h3").text for card in page.all("article")]


def figures(page):
    """Return the numbers at the top of the page, by their id."""
    return {dd.attributes["id"]: dd.text for dd in page.one("dl", class_name="figures").all("dd")}


def cells(table):
    """Return the texts of a table's body by line, without the empty ones."""
    lines = table.one("tbody").all("tr")
    return [[c.text for c in line.content if c != "\n" and c.text.strip()] for line in lines]
