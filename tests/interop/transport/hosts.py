"""python3 hosts.py DIR: the mail hosts of DIR/hosts.json, by aiosmtpd; what they take goes to the Maildir DIR/mail."""

import asyncio
import json
import pathlib
import ssl
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

LIMITS = {"1.2": ssl.TLSVersion.TLSv1_2, "old": ssl.TLSVersion.TLSv1}


class Keeper(Mailbox):
    """Says in a trace field how a message came, as other mail servers do by themselves."""

    def __init__(self, directory, name):
        super().__init__(directory)
        self.name = name

    async def handle_DATA(self, server, session, envelope):
        protocol = "ESMTPS" if session.ssl else "ESMTP"
        trace = f"Received: by {self.name} with {protocol} for <{envelope.rcpt_tos[0]}>\r\n"
        envelope.content = trace.encode() + envelope.content
        return await super().handle_DATA(server, session, envelope)


class Host:
    def __init__(self, directory, name, address, tls, sni, **_):
        self.directory, self.name, self.address, self.tls, self.sni = directory, name, address, tls, sni
        self.keeper = Keeper(directory / "mail", name)

    async def listen(self):
        await asyncio.get_running_loop().create_server(self.session, self.address, 25)

    def session(self):
        """With the certificate that counts now."""
        return SMTP(self.keeper, hostname=self.name, enable_SMTPUTF8=True, loop=asyncio.get_running_loop(),
                    tls_context=None if self.tls == "absent" else self.context())

    def context(self):
        if not self.sni:
            return self.context_with(self.name)
        context = self.context_with("decoy")
        context.sni_callback = self.choose
        return context

    def context_with(self, owner):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL speaks TLS 1.0 only where nothing is asked of its ciphers
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = LIMITS.get(self.tls, ssl.TLSVersion.MAXIMUM_SUPPORTED)
        context.load_cert_chain(self.directory / "now" / "certificates" / f"{owner}.pem")
        return context

    def choose(self, connection, name, _):
        if name == self.name:
            connection.context = self.context_with(self.name)


async def serve(directory):
    hosts = json.loads((directory / "hosts.json").read_text())
    await asyncio.gather(*(Host(directory, **host).listen() for host in hosts))
    (directory / "hosts.ready").touch()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(pathlib.Path(sys.argv[1])))
