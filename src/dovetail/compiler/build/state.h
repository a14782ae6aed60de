/* The tensors of a module, as long as they are what was compiled for.
 *
 * A State is made of three tuples, and of what tells quickly that tensors are of the same kind:
 *   places  (dict, name, dtype, is_cpu, shape, strides, requires_grad or None): the tensors, by
 *           where they are looked up;
 *   same    (dict, name, object): what must still stand there;
 *   types   (object, type): of what class an object must still be;
 *   guard   a function of the tensors and of `given` more, or None.
 * Calling it returns the list of tensors, or None where anything is not as it was. Its method
 * `ready` takes a tuple of arguments: it returns the tensors and those, or None, and asks the guard
 * alone, which may say no where a closer look would not. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
  PyObject_HEAD PyObject *places, *same, *types, *guard;
  Py_ssize_t given;
} State;

static PyObject *dtype_name, *stride_name, *gradient_name, *shape_word, *cpu_name;

/* Whether an attribute (or, with call, what a method returns) equals `expected`; -1: an error. */
static int has(PyObject *tensor, PyObject *name, PyObject *expected, int call) {
  PyObject *found =
      call ? PyObject_CallMethodNoArgs(tensor, name) : PyObject_GetAttr(tensor, name);
  if (!found) return -1;
  const int equal = found == expected ? 1 : PyObject_RichCompareBool(found, expected, Py_EQ);
  Py_DECREF(found);
  return equal;
}

static int fits(PyObject *tensor, PyObject *place) {
  int good = has(tensor, dtype_name, PyTuple_GET_ITEM(place, 2), 0);
  if (good == 1) good = has(tensor, cpu_name, PyTuple_GET_ITEM(place, 3), 0);
  if (good == 1) good = has(tensor, shape_word, PyTuple_GET_ITEM(place, 4), 0);
  if (good == 1) good = has(tensor, stride_name, PyTuple_GET_ITEM(place, 5), 1);
  PyObject *wanted = PyTuple_GET_ITEM(place, 6);
  if (good == 1 && wanted != Py_None) good = has(tensor, gradient_name, wanted, 0);
  return good;
}

static int unchanged(State *self) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->types); ++i) {
    PyObject *pair = PyTuple_GET_ITEM(self->types, i);
    if ((PyObject *)Py_TYPE(PyTuple_GET_ITEM(pair, 0)) != PyTuple_GET_ITEM(pair, 1)) return 0;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->same); ++i) {
    PyObject *item = PyTuple_GET_ITEM(self->same, i);
    PyObject *found =
        PyDict_GetItemWithError(PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1));
    if (found != PyTuple_GET_ITEM(item, 2)) return PyErr_Occurred() ? -1 : 0;
  }
  return 1;
}

/* 1: `made` begins with the tensors that are in their places now; 0: one is missing; -1: an error. */
static int collect(State *self, PyObject *made) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->places); ++i) {
    PyObject *place = PyTuple_GET_ITEM(self->places, i);
    PyObject *tensor =
        PyDict_GetItemWithError(PyTuple_GET_ITEM(place, 0), PyTuple_GET_ITEM(place, 1));
    if (!tensor || tensor == Py_None) return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(tensor);
    PyList_SET_ITEM(made, i, tensor);
  }
  return 1;
}

static PyObject *answer(int good, PyObject *made) {
  if (good == 1) return made;
  Py_XDECREF(made);
  if (good < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *state_call(PyObject *object, PyObject *args, PyObject *keywords) {
  State *self = (State *)object;
  (void)args, (void)keywords;
  int good = unchanged(self);
  const Py_ssize_t count = PyTuple_GET_SIZE(self->places);
  PyObject *made = good == 1 ? PyList_New(count) : NULL;
  if (good == 1 && !made) return NULL;
  if (good == 1) good = collect(self, made);
  for (Py_ssize_t i = 0; good == 1 && i < count; ++i)
    good = fits(PyList_GET_ITEM(made, i), PyTuple_GET_ITEM(self->places, i));
  return answer(good, made);
}

static PyObject *state_ready(PyObject *object, PyObject *args) {
  State *self = (State *)object;
  if (self->guard == Py_None || !PyTuple_Check(args) || PyTuple_GET_SIZE(args) != self->given)
    Py_RETURN_NONE;
  int good = unchanged(self);
  if (good != 1) return answer(good, NULL);
  const Py_ssize_t count = PyTuple_GET_SIZE(self->places), all = count + self->given;
  PyObject *made = PyList_New(all);
  if (!made) return NULL;
  good = collect(self, made);
  if (good != 1) return answer(good, made);
  for (Py_ssize_t i = 0; i < self->given; ++i)
    PyList_SET_ITEM(made, count + i, Py_NewRef(PyTuple_GET_ITEM(args, i)));
  PyObject *said =
      PyObject_Vectorcall(self->guard, ((PyListObject *)made)->ob_item, (size_t)all, NULL);
  good = !said ? -1 : said == Py_True;
  Py_XDECREF(said);
  return answer(good, made);
}

static int state_init(PyObject *object, PyObject *args, PyObject *keywords) {
  State *self = (State *)object;
  (void)keywords;
  if (!PyArg_ParseTuple(args, "O!O!O!On", &PyTuple_Type, &self->places, &PyTuple_Type, &self->same,
                        &PyTuple_Type, &self->types, &self->guard, &self->given))
    return -1;
  Py_INCREF(self->guard);
  Py_INCREF(self->places);
  Py_INCREF(self->same);
  Py_INCREF(self->types);
  return 0;
}

static int state_traverse(PyObject *object, visitproc visit, void *arg) {
  State *self = (State *)object;
  Py_VISIT(self->places);
  Py_VISIT(self->same);
  Py_VISIT(self->types);
  Py_VISIT(self->guard);
  Py_VISIT(Py_TYPE(object));
  return 0;
}

static int state_clear(PyObject *object) {
  State *self = (State *)object;
  Py_CLEAR(self->places);
  Py_CLEAR(self->same);
  Py_CLEAR(self->types);
  Py_CLEAR(self->guard);
  return 0;
}

static void state_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  state_clear(object);
  type->tp_free(object);
  Py_DECREF(type);
}

static PyMethodDef state_methods[] = {
    {"ready", state_ready, METH_O, "The tensors and the arguments, or None."}, {NULL, NULL, 0, NULL}};
static PyType_Slot state_slots[] = {{Py_tp_init, state_init},
                                    {Py_tp_methods, state_methods},
                                    {Py_tp_dealloc, state_dealloc},
                                    {Py_tp_traverse, state_traverse},
                                    {Py_tp_clear, state_clear},
                                    {Py_tp_call, state_call},
                                    {Py_tp_new, PyType_GenericNew},
                                    {Py_tp_doc, "The tensors of a module, or None once it is not "
                                                "what was compiled."},
                                    {0, NULL}};
static PyType_Spec state_spec = {"dovetail_caller.State", sizeof(State), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, state_slots};

static PyObject *state_type(void) {
  dtype_name = PyUnicode_InternFromString("dtype");
  stride_name = PyUnicode_InternFromString("stride");
  gradient_name = PyUnicode_InternFromString("requires_grad");
  shape_word = PyUnicode_InternFromString("shape");
  cpu_name = PyUnicode_InternFromString("is_cpu");
  return PyType_FromSpec(&state_spec);
}
