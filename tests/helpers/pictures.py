"""What is to be seen in a picture that matplotlib has drawn."""

from matplotlib.colors import to_rgb


def words(texts):
    """What some of its texts or labels say."""
    return [text.get_text() for text in texts]


def dashed(figure):
    """Where its first axes have dashed lines across."""
    lines = figure.axes[0].lines
    return [line.get_ydata()[0] for line in lines if line.get_linestyle() == "--"]


def grey(colour):
    """How light a colour is in black and white, from 0 to 3."""
    return round(sum(to_rgb(colour)), 1)
