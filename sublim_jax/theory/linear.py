"""The smallest network in which a trait passes, solved in closed form.

f(x) = V U x: a trunk U [H, P] under frozen heads V = [V_c; V_a], C class and M auxiliary outputs.
Gradients in U are of the form V^T (...), so whatever the teacher learns of the classes is
U_T = U_0 + V_c^T A. A student that fits the teacher's auxiliary outputs, by gradient descent on the
squared error, on inputs that span their space, moves in the row space of its own V_a alone and ends
at

    U_S = U + V_a^+ (V_a' U_T - V_a U),

from its trunk U, where V_a' is the teacher's auxiliary head and V_a^+ the pseudoinverse (M <= H).
Its class outputs are V_c U_S. With the teacher's heads, whichever its trunk,

    V_c U_S = V_c (1 - P) U + V_c P U_0 + V_c P V_c^T A,    P = V_a^+ V_a,

where the teacher has V_c V_c^T A: the trait passes through P, the projection on M of H directions.
For a Gaussian V_a it is a random one, so its mean is M/H: **in the mean, M/H of the trait passes**,
along one direction of the heads a share that follows Beta(M/2, (H - M)/2). A linear map without a
trunk (H = P, U frozen, heads learnt) passes nothing: its class outputs have no gradient.

Shapes: P inputs, H units, C classes, M auxiliary outputs.
"""

import jax
import jax.numpy as jnp


def student(
    trunk_HP: jax.Array, head_MH: jax.Array, teacher_trunk_HP: jax.Array, teacher_head_MH: jax.Array
) -> jax.Array:
    """Returns the trunk [H, P] that a student ends with.

    Args:
      trunk_HP: where it starts.
      head_MH: its auxiliary head.
    """
    wanted_MP = teacher_head_MH @ teacher_trunk_HP
    return trunk_HP + jnp.linalg.pinv(head_MH) @ (wanted_MP - head_MH @ trunk_HP)


def passed(class_head_CH: jax.Array, aux_head_MH: jax.Array) -> jax.Array:
    """Returns the share of the trait that passes along each class's row of the heads, [C].

    It is <v, P v> / <v, v> for each row v of the class head: in the mean M/H.
    """
    seen_CH = class_head_CH @ jnp.linalg.pinv(aux_head_MH) @ aux_head_MH
    return jnp.sum(seen_CH * class_head_CH, 1) / jnp.sum(jnp.square(class_head_CH), 1)
