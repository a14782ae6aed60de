"""``from mltools import corsair``, here ``from dovetail.compat import corsair``.

After ``corsair.aware()`` every model has ``model.transform("corsair_config.yaml")``;
``corsair.Model(net)`` is a container that has it without.
"""

from dovetail.container import Model, aware, unaware

__all__ = ["Model", "aware", "unaware"]
