"""TLS contexts: for the listener (certificates exchangeable at a reload) and towards backends."""

import ssl

from ostiary.core.snapshot import Tls, UpstreamTls

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(tls: Tls) -> ssl.SSLContext:
    """A context from the files that `tls` names. OSError (ssl.SSLError among them) when they are no good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[tls.minimum]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
    return context


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """A context towards backends, verifying them unless that was switched off by name. OSError as above."""
    context = ssl.create_default_context(cafile=tls.ca or None)
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None)
    return context
