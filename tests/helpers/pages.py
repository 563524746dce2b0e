"""What a page of HTML is made of."""

from html.parser import HTMLParser


class Tags(HTMLParser):
    """The tags of a page that is well-formed, and its words."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data
