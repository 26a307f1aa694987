"""Who asks at a terminal, the person of a token or a login that nobody vouches for; and who somebody is by now."""

from __future__ import annotations

from llm_platform.errors import SpecificationError
from llm_platform.operations.release.observing import RoleOf
from llm_platform.operations.release.rollouts import Who
from llm_platform.records import ReviewRole
from llm_platform.review.people import Access, read_people
from llm_platform.settings.login import login
from llm_platform.settings.settings import Settings


def who_asks(settings: Settings) -> Who:
    """The person of the identity token; without one, the login, which is recorded as not authenticated.

    Raises:
        SpecificationError: a token is given, and belongs to nobody in the file of people, or there is no such file.
    """
    if settings.identity_token is None:
        return Who(login())
    if settings.review_people is None:
        raise SpecificationError(
            "LLM_PLATFORM_IDENTITY_TOKEN says who you are, and nothing says whose it is. Set "
            "LLM_PLATFORM_REVIEW_PEOPLE to the file of people, or unset the token."
        )
    person = Access(people=read_people(settings.review_people)).of_token(settings.identity_token.get_secret_value())
    if person is None:
        raise SpecificationError(
            f"The token in LLM_PLATFORM_IDENTITY_TOKEN belongs to nobody in {str(settings.review_people)!r}. Make one "
            "with `llm-platform review token NAME` and add its line to the file, or unset the token."
        )
    return Who(person.name, person.role, authenticated=True)


def role_now(settings: Settings) -> RoleOf | None:
    """Tells which role somebody has in the file of people as it is now; None where no file is named.

    What is returned raises SpecificationError where the file has mistakes.
    """
    people = settings.review_people
    if people is None:
        return None

    def role_of(name: str) -> ReviewRole | None:
        listed = read_people(people).get(name)
        return None if listed is None else listed.role

    return role_of
