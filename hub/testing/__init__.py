"""For authors of plugins: what a transport must do, as tests that any of them can be put to.

::

    check_transport     all that a link promises, alone and under a broker
    LinkCatcher         a broker that gives away the links that a transport makes
    FarEnd, Talking     what an author's test client has to be able to do
"""

from hub.testing.catching import LinkCatcher
from hub.testing.far_end import FarEnd, LinkMaker, Talking
from hub.testing.kit import check_transport

__all__ = ["FarEnd", "LinkCatcher", "LinkMaker", "Talking", "check_transport"]
