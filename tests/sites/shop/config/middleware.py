from django.conf import settings


def release_header(get_response):
    """Says on every response, errors and static files included, which release answered."""

    def middleware(request):
        response = get_response(request)
        response.headers["X-Release"] = settings.RELEASE_ID
        return response

    return middleware
