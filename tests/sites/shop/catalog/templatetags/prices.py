from django import template

from ..pricing import euros

register = template.Library()
register.filter("euros", euros)
