"""Pays a URL with the PyPI package x402, and prints what came of it as JSON.

The key is a Solana key pair in base58, in the environment variable PAYER_KEY.
"""

import asyncio
import json
import os
import sys

import httpx
from x402 import x402Client
from x402.http.clients.httpx import wrapHttpxWithPayment
from x402.mechanisms.svm import KeypairSigner
from x402.mechanisms.svm.exact.register import register_exact_svm_client


async def main(url: str, rpc_url: str) -> None:
    signer = KeypairSigner.from_base58(os.environ["PAYER_KEY"])
    client = register_exact_svm_client(x402Client(), signer, rpc_url=rpc_url)
    async with wrapHttpxWithPayment(client) as http:
        answer = await http.get(url)
    header = answer.headers.get("PAYMENT-RESPONSE") or answer.headers.get("X-PAYMENT-RESPONSE")
    print(json.dumps({"status": answer.status_code, "body": answer.text, "receipt": header}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
