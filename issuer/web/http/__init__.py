"""What every endpoint shares: errors, bodies, forms, headers, logging and tracing of requests.

It knows no endpoint.
"""
