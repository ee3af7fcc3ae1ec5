"""The guards between a user's URI and this machine: which schemes, hosts, addresses and redirects."""

from tests.chaos.guards_trial import Guard

STORAGE = "cluster/files/storage.py"
WEB = "cluster/files/web_source.py"
URIS = "cluster/contracts/uris.py"
STORAGE_ROOT = "cluster/files/storage_root.py"

_LOCAL = "tests/unit/test_storage.py::"
_PLACES = "tests/unit/test_web_source.py::"
_OWN = "tests/unit/test_own_addresses.py::"
_ROOTS = "tests/unit/test_storage_root.py::"
_LIMITS = "tests/unit/test_web_limits.py::"
_NAMES = "tests/unit/test_shown_names.py::"
_REFUSED = ("tests/unit/test_refused_uris.py::test_what_must_be_refused_is_refused_and_connects_to_nothing",)
_OPENED = f"{_PLACES}test_a_network_is_opened_and_no_other"
_CHECKED = "if not all(may_be_read(address, networks) for address in addresses):"
_SAID = f"{_PLACES}test_what_is_not_read_is_said_in_one_sentence"

_SCHEMES = [
    Guard(
        "allowed schemes",
        STORAGE,
        "if scheme not in limits.allowed_schemes:",
        'if scheme == "":',
        (f"{_LOCAL}test_scheme_not_allowed_is_refused_naming_those_allowed",),
    ),
    Guard(
        "file:// is of this machine",
        URIS,
        'if host in {"", "localhost"} else None',
        "if host is not None else None",
        (f"{_LOCAL}test_what_is_no_readable_local_file_is_named",),
    ),
    Guard(
        "no device, no pipe",
        STORAGE,
        "if not path.is_file():",
        "if not str(path):",
        (f"{_LOCAL}test_what_is_no_readable_local_file_is_named",),
    ),
    Guard(
        "buckets have names",
        URIS,
        "elif scheme in _BUCKET_SCHEMES and not _BUCKET.fullmatch(place):",
        "elif not uri:",
        _REFUSED,
    ),
    Guard(
        "control characters in URLs",
        URIS,
        '    if _CONTROL.search(uri):\n        raise InvalidVideo(f"a URL',
        '    if not uri:\n        raise InvalidVideo(f"a URL',
        _REFUSED,
    ),
    Guard(
        "no user, no password",
        URIS,
        'if "@" in re.split("[/?#]", uri.partition("://")[2], maxsplit=1)[0]:',
        "if not uri:",
        (f"{_SAID}[http://me:secret@a.test/b?c=secret-a URL with user or password is not read: http://a.test/b]",),
    ),
    Guard(
        "addresses in their full form",
        URIS,
        "if _NUMBER.fullmatch(labels[-1]):",
        "if not labels:",
        _REFUSED,
    ),
    Guard(
        "names that keep their letters",
        URIS,
        'if any(not label.isascii() and not encoded.startswith("xn--") for label, encoded in labels):',
        "if not labels:",
        _REFUSED,
    ),
    Guard(
        "secrets of URIs in messages",
        URIS,
        "    rest = _without_user(scheme_of(uri), rest)\n",
        "",
        (f"{_LOCAL}test_errors_do_not_tell_passwords_and_signatures",),
    ),
    Guard(
        "signatures of URLs in messages",
        URIS,
        're.split("[?#]", rest, maxsplit=1)[0]\n    before',
        "rest\n    before",
        (f"{_SAID}[http://me:secret@a.test/b?c=secret-a URL with user or password is not read: http://a.test/b]",),
    ),
    Guard(
        "control characters in names and messages",
        URIS,
        'return _CONTROL.sub(lambda found: f"\\\\x{ord(found[0]):02x}", text)',
        "return text",
        (f"{_NAMES}test_a_name_is_one_line", f"{_NAMES}test_what_is_shown_is_one_line"),
    ),
    Guard(
        "control characters in names of the web",
        URIS,
        "return _on_one_line(urllib.parse.unquote(name) if web else name) or shown(uri)",
        "return (urllib.parse.unquote(name) if web else name) or shown(uri)",
        (
            f"{_NAMES}test_a_name_is_one_line",
            "tests/integration/test_routes_guarded.py::test_a_name_that_no_database_can_hold_is_written_out",
        ),
    ),
    Guard(
        "control characters in names of files",
        URIS,
        'return _on_one_line((path.name or uri).encode(errors="replace").decode())',
        'return (path.name or uri).encode(errors="replace").decode()',
        (f"{_NAMES}test_a_name_is_one_line",),
    ),
]

_ADDRESSES = [
    Guard(
        "no address of this machine",
        WEB,
        "if any(is_own(real) for address in unopened for real in (address, *_meant_by(address))):",
        "if not place.host:",
        (f"{_OWN}test_own_public_address_is_refused_unconnected[http://8.8.4.4:8000/film]",),
    ),
    Guard(
        "no request to this machine",
        WEB,
        "if address in unopened and sock.getsockname()[0] == sock.getpeername()[0]:",
        "if not place.host:",
        (f"{_OWN}test_own_address_seen_after_connecting_gets_no_request",),
    ),
    Guard(
        "an address is own where every one can be bound",
        "cluster/files/own_addresses.py",
        "return address in _of_interfaces()",
        "return False",
        (f"{_OWN}test_own_addresses_are_told_from_others[True]",),
    ),
    Guard("public addresses alone", WEB, _CHECKED, "if not addresses:", _REFUSED),
    Guard("all of a host's addresses", WEB, _CHECKED, _CHECKED.replace("all(", "any("), _REFUSED),
    Guard(
        "the address that was checked is connected to",
        WEB,
        "sock.connect((str(address), place.port))",
        "sock.connect((place.host, place.port))",
        (f"{_PLACES}test_the_connection_goes_to_the_address_that_was_checked",),
    ),
    Guard(
        "a network that is opened opens no other",
        WEB,
        "return any(address.version == network.version and address in network for network in networks)",
        "return bool(networks)",
        (f"{_OPENED}[192.168.0.1-10.0.0.0/8-False]",),
    ),
    Guard(
        "addresses that stand for others",
        WEB,
        "return (opened or public) and all(may_be_read(inner, private_networks) for inner in meant)",
        "return opened or public",
        (f"{_OPENED}[::ffff:127.0.0.1-::/0-False]", f"{_OPENED}[2002:7f00:1::-::/0-False]"),
    ),
    Guard(
        "addresses that are translated",
        WEB,
        "        return all(may_be_read(inner, private_networks) for inner in meant)\n    public",
        "        return True\n    public",
        (f"{_OPENED}[64:ff9b::7f00:1-::/0-False]",),
    ),
    Guard(
        "addresses with a scope",
        WEB,
        "    if address.scope_id is not None:\n        return False\n",
        "",
        (f"{_OPENED}[fe80::1%1-fe80::/10-False]",),
    ),
    Guard("metadata of clouds", WEB, '        "168.63.129.16/32",', '        "192.0.2.1/32",', _REFUSED),
    Guard(
        "special networks",
        WEB,
        "address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)",
        "address.is_global",
        _REFUSED,
    ),
    Guard(
        "public addresses of IPv6",
        WEB,
        "address.is_global and address in _PUBLIC_V6 and not",
        "address.is_global and not",
        _REFUSED,
    ),
]

_REDIRECTS = [
    Guard(
        "redirects are checked again",
        WEB,
        "with _answer(place, reach, headers, trusted) as response:",
        "with _answer(place, reach if place == web_place(uri) else WebReach(reach.deadline, reach.schemes, _ANYWHERE), "
        "headers, trusted) as response:",
        _REFUSED,
    ),
    Guard(
        "the storage root's key goes to its origin alone",
        WEB,
        "trusted = root if root is not None and root.covers(place) else None",
        "trusted = root",
        (
            f"{_ROOTS}test_storage_key_is_not_sent_to_another_origin",
            f"{_ROOTS}test_private_addresses_stay_closed_to_other_uris",
        ),
    ),
    Guard(
        "no relative path leads out of the storage root",
        STORAGE_ROOT,
        "if not is_relative(path) or not all(map(_is_name, segments)):",
        "if not is_relative(path):",
        (f"{_ROOTS}test_no_path_leads_out_of_the_root",),
    ),
    Guard(
        "only the object that is named is removed",
        "cluster/files/stored_files.py",
        "driver_of(uri)\n        filesystem",
        '__import__("fsspec").core.url_to_fs(uri)\n        filesystem',
        ("tests/unit/test_storage_root.py::test_only_the_object_that_is_named_is_removed",),
    ),
    Guard(
        "no link leads out of the storage root",
        STORAGE_ROOT,
        "    if not inside:\n",
        "    if not folder:\n",
        (f"{_ROOTS}test_a_link_that_leaves_the_folder_is_refused",),
    ),
    Guard(
        "links in a circle fail their row alone",
        STORAGE_ROOT,
        "    except (OSError, RuntimeError) as error:",
        "    except ZeroDivisionError as error:",
        (
            f"{_ROOTS}test_stored_path_that_no_system_call_takes_is_refused",
            "tests/integration/test_adopting.py::test_path_that_cannot_be_resolved_fails_its_row_alone",
        ),
    ),
    Guard(
        "a folder without rights fails its row alone",
        STORAGE,
        "    except (OSError, ValueError) as error:\n        raise _local_failure(path, error) from error\n",
        "    except (FileNotFoundError, ValueError) as error:\n        raise _local_failure(path, error) from error\n",
        (f"{_ROOTS}test_stored_path_of_a_folder_without_rights_is_refused[closed]",),
    ),
    Guard(
        "what goes on is checked again",
        WEB,
        "with _answer(place, reach, headers, trusted) as response:",
        "with _answer(place, WebReach(reach.deadline, reach.schemes, _ANYWHERE) if headers else reach, "
        "headers, trusted) as response:",
        ("tests/unit/test_web_transfer.py::test_addresses_are_checked_again_when_a_transfer_goes_on",),
    ),
    Guard(
        "redirects lead to the web alone",
        WEB,
        'if scheme not in schemes & {"http", "https"} or (place.scheme, scheme) == ("https", "http"):',
        'if (place.scheme, scheme) == ("https", "http"):',
        (f"{_PLACES}test_a_redirect_leads_from_http_to_https",),
    ),
    Guard(
        "no redirect from https to http",
        WEB,
        ' or (place.scheme, scheme) == ("https", "http"):',
        ":",
        (f"{_PLACES}test_no_redirect_leads_from_https_to_http",),
    ),
    Guard(
        "redirects have an end",
        WEB,
        "for _ in range(MAX_REDIRECTS + 1):",
        "for _ in range(50):",
        (f"{_LIMITS}test_ten_redirects_are_followed_and_no_more",),
    ),
    Guard(
        "certificates are checked",
        WEB,
        "context = ssl.create_default_context()",
        "context = ssl._create_unverified_context()",
        (f"{_PLACES}test_certificate_is_checked_for_the_name_sent_to_server",),
    ),
]

SOURCES = [*_SCHEMES, *_ADDRESSES, *_REDIRECTS]
