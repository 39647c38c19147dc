"""Git repositories: refs and trees of commits, from a path, from a directory with `.git`, with a local repository as the remote."""

import subprocess
from pathlib import Path

import pytest
from inprocess import Api
from sessions import Failed, Step

from pocket.gitrepo import Remote, latest_version

GLOB: Step = ("glob", {"pattern": "**"})


def git(place: Path, *words: str) -> str:
    """Run git in a repository."""
    settings = ("-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *settings, *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def commit(place: Path, name: str) -> str:
    """Commit a file that holds its name; give the commit."""
    (place / name).write_text(name)
    git(place, "add", "-A")
    git(place, "commit", "-qm", name)
    return git(place, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make main (a, b), side (a, c) and the tags v1.2.0, v1.10.0, v2.0.0-rc1 and odd."""
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    commit(place, "a")
    git(place, "tag", "v1.2.0")
    git(place, "checkout", "-qb", "side")
    commit(place, "c")
    git(place, "checkout", "-q", "main")
    commit(place, "b")
    git(place, "tag", "-a", "-m", "annotated", "v1.10.0")
    git(place, "tag", "v2.0.0-rc1")
    git(place, "tag", "odd")
    return place


def at(place: Path) -> Step:
    """Give the step that opens a repository."""
    return ("git", {"url": f"file://{place}"})


async def test_refs(api: Api, repository: Path) -> None:
    repo = at(repository)
    assert await api(repo, "branches") == ["main", "side"]
    assert await api(repo, ("tags", {"patterns": ["v1*"]})) == ["v1.10.0", "v1.2.0"]
    assert await api(repo, "url") == f"file://{repository}"
    head = git(repository, "rev-parse", "HEAD")
    assert await api(repo, "head", "commit") == head
    assert await api(repo, ("tag", {"name": "v1.10.0"}), "commit") == head
    assert await api(repo, ("tag", {"name": "v1.10.0"}), "ref") == "refs/tags/v1.10.0"
    assert await api(repo, "latestVersion", "ref") == "refs/tags/v2.0.0-rc1"
    git(repository, "tag", "v2.0.0")
    assert latest_version(Remote(str(repository))).name == "refs/tags/v2.0.0"
    assert await api(repo, "head", "ref") == "refs/heads/main"
    assert await api(repo, ("commit", {"id": head}), "ref") == head
    ancestor = await api(
        repo, ("branch", {"name": "main"}), ("commonAncestor", {"other": await api(repo, ("branch", {"name": "side"}), "id")}), "commit"
    )
    assert ancestor == git(repository, "rev-parse", "v1.2.0")


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (("branch", {"name": "side"}), ["a", "c"]),
        (("tag", {"name": "v1.2.0"}), ["a"]),
        (("ref", {"name": "refs/heads/main"}), ["a", "b"]),
        ("head", ["a", "b"]),
    ],
)
async def test_trees(api: Api, repository: Path, step: Step, names: list[str]) -> None:
    assert await api(at(repository), step, ("tree", {"discardGitDir": True}), GLOB) == names
    entries = await api(at(repository), step, "tree", "entries")
    assert entries == [".git/", *names]


async def test_a_tree_is_kept_by_its_commit(api: Api, repository: Path) -> None:
    first: Step = ("commit", {"id": git(repository, "rev-parse", "v1.2.0")})
    assert await api(at(repository), first, ("tree", {"discardGitDir": True}), "entries") == ["a"]
    (repository / ".git").rename(repository / "moved")
    again = await api.executor.execute("{ version }")
    assert again["data"]
    other = type(api.executor)(api.engine, api.executor.registry)
    assert (await Api(api.engine, other)(at(repository), first, ("tree", {"discardGitDir": True}), "entries")) == ["a"]


async def test_a_path_of_the_host_and_a_directory_with_git(api: Api, repository: Path) -> None:
    assert await api(("git", {"url": "repository"}), "branches") == ["main", "side"]
    (repository / "untracked").touch()
    directory: tuple[Step, ...] = ("host", ("directory", {"path": "repository"}), "asGit")
    assert await api(*directory, ("branch", {"name": "side"}), ("tree", {"discardGitDir": True}), GLOB) == ["a", "c"]
    assert await api(*directory, "uncommitted", "addedPaths") == ["untracked"]
    assert await api(*directory, "url") is None
    with pytest.raises(Failed, match="not a git repository"):
        await api("directory", "asGit", "branches")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("branch", {"name": "none"}), "commit"], 'does not contain ref "refs/heads/none"'),
        ([("tag", {"name": "main"}), "commit"], 'does not contain ref "refs/tags/main"'),
        ([("commit", {"id": "0" * 40}), "tree", "entries"], "git .* failed"),
    ],
)
async def test_what_is_not_there(api: Api, repository: Path, steps: list[Step], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api(at(repository), *steps)


async def test_no_repository_and_no_version(api: Api, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="git ls-remote failed"):
        await api(("git", {"url": f"file://{tmp_path}/none"}), "branches")
    git(tmp_path, "init", "-q", "bare")
    with pytest.raises(Failed, match="no version tags found"):
        await api(at(tmp_path / "bare"), "latestVersion", "commit")


async def test_an_option_is_no_address(api: Api, tmp_path: Path) -> None:
    """An address that looks like an option of git runs nothing."""
    with pytest.raises(Failed):
        await api(("git", {"url": f"--upload-pack=touch {tmp_path}/ran;://x"}), "branches")
    assert not (tmp_path / "ran").exists()
